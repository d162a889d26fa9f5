package apply

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// fields are the pseudo-headers and headers of a request over HTTP/2, in their order.
type fields [][2]string

// asked is a good request of a site.
func asked(host, target string, more ...[2]string) fields {
	return append(fields{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", target}}, more...)
}

// post is one with a body.
func post(host, target string, more ...[2]string) fields {
	f := asked(host, target, more...)
	f[0][1] = "POST"
	return f
}

// without returns the fields but that one.
func (f fields) without(name string) fields {
	return slices.DeleteFunc(f, func(h [2]string) bool { return h[0] == name })
}

// A hostile client that speaks HTTP/2 can make nginx write nothing to a container that means
// another request or another site in HTTP/1.1.
func TestHostileClientsOverHTTP2(t *testing.T) { each(t, testHostileClientsOverHTTP2) }

func testHostileClientsOverHTTP2(t *testing.T, r *rig) {
	r.settings.AccessLog, r.settings.LogFormat = filepath.Join(r.settings.LogDir, "access.log"), "json"
	r.run()
	c := &records{}
	r.serve(r.hostileTable(t, c))
	const split = "x\r\nHost: closed.test\r\nX-Real-IP: forged"
	const refused = "400|reset|goaway|closed"
	for _, row := range []struct {
		name        string
		sent        fields
		body        string
		status, got string
	}{
		{"a good request", asked("tls.test", "/x"), "", "200", "tls GET /x"},
		{"a body", post("tls.test", "/p", [2]string{"content-length", "5"}), "12345", "200", "tls POST /p"},
		{"a body without a length", post("tls.test", "/p"), "12345", "200", "tls POST /p"},
		{"a body that is longer than its length", post("tls.test", "/p", [2]string{"content-length", "0"}), inside, refused, ""},
		{"a body that is shorter than its length", post("tls.test", "/p", [2]string{"content-length", "500"}), "x", refused, ""},
		{"a body of a GET", asked("tls.test", "/g"), inside, "200", "tls GET /g"},
		{"two lengths", post("tls.test", "/p", [2]string{"content-length", "5"}, [2]string{"content-length", "0"}), "12345", refused, ""},
		{"a length that is none", post("tls.test", "/p", [2]string{"content-length", "0\r\n"}), "12345", refused, ""},
		{"chunked", post("tls.test", "/p", [2]string{"transfer-encoding", "chunked"}), "0\r\n\r\n" + inside, refused + "|200", "|tls POST /p"},
		{"chunked, with a length", post("tls.test", "/p", [2]string{"transfer-encoding", "chunked"}, [2]string{"content-length", "5"}), "0\r\n\r\n", refused + "|200", "|tls POST /p"},
		{"another coding", post("tls.test", "/p", [2]string{"transfer-encoding", "xchunked"}), "0\r\n\r\n" + inside, refused + "|501|200", "|tls POST /p"},
		{"a line in a value", asked("tls.test", "/x", [2]string{"x", split}), "", refused, ""},
		{"a line feed in a value", asked("tls.test", "/x", [2]string{"x", "x\nHost: closed.test"}), "", refused, ""},
		{"NUL in a value", asked("tls.test", "/x", [2]string{"x", "x\x00y"}), "", refused, ""},
		{"a line in a name", asked("tls.test", "/x", [2]string{"x: x\r\nhost", "closed.test"}), "", refused + "|200", "|tls GET /x"},
		{"a colon in a name", asked("tls.test", "/x", [2]string{"x-real-ip: forged, x", "y"}), "", refused + "|200", "|tls GET /x"},
		{"a space in a name", asked("tls.test", "/x", [2]string{"x-real-ip ", "forged"}), "", refused + "|200", "|tls GET /x"},
		{"a name in capitals", asked("tls.test", "/x", [2]string{"X-Real-IP", "forged"}), "", refused + "|200", "|tls GET /x"},
		{"a name with an underscore", asked("tls.test", "/x", [2]string{"x_real_ip", "forged"}), "", "200", "tls GET /x"},
		{"who it is", asked("tls.test", "/x", [2]string{"x-real-ip", "forged"}, [2]string{"x-forwarded-for", "forged"}, [2]string{"connection", "x-real-ip"}), "", refused + "|200", "|tls GET /x"},
		{"an upgrade", asked("tls.test", "/x", [2]string{"connection", "upgrade"}, [2]string{"upgrade", "h2c"}), "", refused + "|200", "|tls GET /x"},
		{"words for the log", asked("tls.test", "/x?\"\\", [2]string{"referer", "\"}\x1b[2J\x9b"}, [2]string{"user-agent", "\\\x7f\x01\t"}), "", "200", "tls GET /x?\"\\"},
		{"a line in the path", asked("tls.test", "/x HTTP/1.1\r\nHost: closed.test\r\n\r\n"), "", refused, ""},
		{"a space in the path", asked("tls.test", "/x /y"), "", refused, ""},
		{"NUL in the path", asked("tls.test", "/x\x00"), "", refused, ""},
		{"an absolute path", asked("tls.test", "https://closed.test/x"), "", refused, ""},
		{"a path without a slash", asked("tls.test", "x"), "", refused, ""},
		{"an empty path", asked("tls.test", ""), "", refused, ""},
		{"no path", asked("tls.test", "/").without(":path"), "", refused, ""},
		{"two paths", asked("tls.test", "/x", [2]string{":path", "/y"}), "", refused, ""},
		{"a pseudo-header behind others", asked("tls.test", "/x", [2]string{"x", "x"}, [2]string{":path", "/y"}), "", refused, ""},
		{"an unknown pseudo-header", asked("tls.test", "/x", [2]string{":protocol", "websocket"}), "", refused, ""},
		{"a line in the method", fields{{":method", "GET /x HTTP/1.1\r\nHost: closed.test\r\n\r\nGET"}, {":scheme", "https"}, {":authority", "tls.test"}, {":path", "/x"}}, "", refused, ""},
		{"a space in the method", fields{{":method", "GET /y"}, {":scheme", "https"}, {":authority", "tls.test"}, {":path", "/x"}}, "", refused, ""},
		{"a line in the scheme", fields{{":method", "GET"}, {":scheme", "https://closed.test/\r\n"}, {":authority", "tls.test"}, {":path", "/x"}}, "", refused, ""},
		{"a scheme that is not the connection's", fields{{":method", "GET"}, {":scheme", "http"}, {":authority", "tls.test"}, {":path", "/x"}}, "", refused + "|200", "|tls GET /x"},
		{"a line in the name", asked("tls.test\r\nHost: closed.test", "/x"), "", refused, ""},
		{"a path in the name", asked("tls.test/x", "/x"), "", refused, ""},
		{"a user in the name", asked("tls.test@closed.test", "/x"), "", refused + "|421", ""},
		{"another name than the connection's", asked("closed.test", "/x"), "", "421", ""},
		{"a name whose clients need a certificate", asked("cert.test", "/x"), "", "421", ""},
		{"two names", asked("tls.test", "/x", [2]string{":authority", "closed.test"}), "", refused, ""},
		{"another host beside the name", asked("tls.test", "/x", [2]string{"host", "closed.test"}), "", refused + "|200", "|tls GET /x"},
		{"another name beside the host", asked("closed.test", "/x", [2]string{"host", "tls.test"}), "", refused + "|421", ""},
		{"only a host", asked("", "/x", [2]string{"host", "tls.test"}).without(":authority"), "", "200", "tls GET /x"},
		{"only a host of another", asked("", "/x", [2]string{"host", "closed.test"}).without(":authority"), "", "421", ""},
		{"no name", asked("", "/x").without(":authority"), "", refused, ""},
		{"a header of 16 KiB", asked("tls.test", "/x", [2]string{"x", strings.Repeat("x", 15<<10)}, [2]string{"y", strings.Repeat("y", 15<<10)}, [2]string{"z", strings.Repeat("y", 15<<10)}), "", refused, ""},
		{"a path of 16 KiB", asked("tls.test", "/"+strings.Repeat("x", 40<<10)), "", refused + "|414", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			status := r.overHTTP2(t, "tls.test", row.sent, row.body)
			c.expect(t, status, row.status, row.got)
		})
	}
	log, err := os.ReadFile(r.settings.AccessLog)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if line = strings.TrimSuffix(line, "\n"); !json.Valid([]byte(line)) || strings.Contains(line, "\x1b") {
			t.Errorf("a line of the log: %q", line)
		}
	}
	// The rules of paths are those of HTTP/1.1.
	locked := withTLS(site("locked.test", c.recorder(t, "open", "locked.test", "/admin")), writePair(t, "locked.test"), route.Redirect)
	admin := spot("/admin", c.recorder(t, "admin", "locked.test", ""))
	admin.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	locked.Locations = append(locked.Locations, admin)
	r.serve(r.tree(locked))
	for _, target := range walled {
		if status := r.overHTTP2(t, "locked.test", asked("locked.test", target), ""); !slices.Contains(strings.Split(refused+"|403", "|"), status) {
			t.Errorf("%s: %s", target, status)
		}
	}
	if got, faults := c.heard(); len(got)+len(faults) > 0 {
		t.Errorf("containers got %q: %q", got, faults)
	}
}

// overHTTP2 sends one request and returns the status of its answer, or how it is refused.
// It knows as much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as that takes, because a library
// sends no such requests.
func (r *rig) overHTTP2(t *testing.T, sni string, sent fields, body string) string {
	t.Helper()
	conn := r.dial(t, sni, "h2")
	defer conn.Close()
	const headers, data, reset, settings, goaway, continuation = 1, 0, 3, 4, 7, 9
	const endStream, endHeaders = 1, 4
	var block []byte
	for _, f := range sent { // literals that are never indexed
		block = append(block, 0x10)
		for _, s := range f {
			block = append(hpackInt(block, 127, len(s)), s...)
		}
	}
	out := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	out = h2Frame(out, settings, 0, 0, nil)
	kind, flags := byte(headers), byte(0)
	if body == "" {
		flags = endStream
	}
	for {
		n := min(len(block), 16<<10)
		if n == len(block) {
			flags |= endHeaders
		}
		out = h2Frame(out, kind, flags, 1, block[:n])
		if block = block[n:]; len(block) == 0 {
			break
		}
		kind, flags = continuation, 0
	}
	if body != "" {
		out = h2Frame(out, data, endStream, 1, []byte(body))
	}
	if _, err := conn.Write(out); err != nil {
		t.Logf("sending: %v", err)
	}
	status := ""
	for {
		kind, flags, stream, payload, err := readH2Frame(conn)
		switch {
		case err != nil:
			return "closed"
		case kind == goaway:
			return "goaway"
		case stream == 1 && kind == reset && status == "":
			return "reset"
		case stream == 1 && kind == headers:
			status = h2Status(payload)
		}
		if stream == 1 && flags&endStream != 0 && (kind == headers || kind == data) {
			return status
		}
	}
}

// hpackInt appends an integer with a prefix of that size.
func hpackInt(b []byte, prefix, n int) []byte {
	if n < prefix {
		return append(b, byte(n))
	}
	b = append(b, byte(prefix))
	for n -= prefix; n >= 128; n /= 128 {
		b = append(b, byte(n%128+128))
	}
	return append(b, byte(n))
}

func h2Frame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func readH2Frame(conn net.Conn) (kind, flags byte, stream uint32, payload []byte, err error) {
	head := make([]byte, 9)
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, 0, 0, nil, err
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(conn, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]), payload, err
}

// h2Status reads the status, which nginx writes first: from HPACK's static table, or its
// three digits behind the name's index and their length.
func h2Status(block []byte) string {
	for len(block) > 0 && block[0]&0xe0 == 0x20 { // the table's size
		block = block[1:]
	}
	fixed := []string{"200", "204", "206", "304", "400", "404", "500"}
	switch {
	case len(block) > 0 && block[0] >= 0x88 && block[0] <= 0x8e:
		return fixed[block[0]-0x88]
	case len(block) > 4 && block[1] == 3:
		return string(block[2:5])
	}
	return "-"
}
