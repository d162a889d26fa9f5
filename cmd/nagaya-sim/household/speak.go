package main

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxMessage bounds what is read of anything that is echoed, in bytes.
const maxMessage = 1 << 16

// unary answers a gRPC call with the message that it was sent.
func unary(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
	if err != nil || r.ProtoMajor != 2 {
		http.Error(w, "gRPC needs HTTP/2, not "+r.Proto, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(b)
	w.Header().Set("Grpc-Status", "0")
}

// webSocket upgrades the connection and sends every byte back that follows: its
// client compares frames and does not read them.
func webSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "no upgrade to websocket was asked for", http.StatusUpgradeRequired)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455, section 1.3
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(c, rw)
}

// serveLines answers every line over TCP, and every datagram, with the name, whom
// it came from and what it said.
func (o service) serveLines(failed chan<- error) error {
	l, err := net.Listen("tcp", o.line)
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", o.line)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			go o.answerLines(c)
		}
	}()
	go func() {
		b := make([]byte, maxMessage)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				failed <- err
				return
			}
			_, _ = p.WriteTo([]byte(o.reply(from, string(b[:n]))), from)
		}
	}()
	return nil
}

func (o service) answerLines(c net.Conn) {
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := io.WriteString(c, o.reply(c.RemoteAddr(), lines.Text())); err != nil {
			return
		}
	}
}

func (o service) reply(from net.Addr, said string) string {
	return fmt.Sprintf("%s answers %s: %s\n", o.name, from, strings.TrimSpace(said))
}
