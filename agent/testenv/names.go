package testenv

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// ServeNames starts a DNS server, over TCP alone, until the test ends, and returns its address. Names come in
// lower case without the last dot, and the type is A or TXT; all others have no records.
func ServeNames(t testing.TB, answer func(name, kind string) []string) (address string) {
	t.Helper()
	return Accept(t, func(c net.Conn) {
		for serveName(c, answer) == nil {
		}
	}).String()
}

// serveName answers one question (RFC 1035, section 4.2.2).
func serveName(c net.Conn, answer func(name, kind string) []string) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, text); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(text); err != nil || len(m.Questions) != 1 {
		return io.ErrUnexpectedEOF
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	switch q.Type {
	case dnsmessage.TypeTXT:
		for _, v := range answer(name, "TXT") {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.TXTResource{TXT: []string{v}}})
		}
	case dnsmessage.TypeA:
		for _, v := range answer(name, "A") {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(v).To4())}})
		}
	}
	out, err := reply.AppendPack(make([]byte, 2))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(out, uint16(len(out)-2))
	_, err = c.Write(out)
	return err
}
