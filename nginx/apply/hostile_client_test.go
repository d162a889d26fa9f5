package apply

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// attack is what a hostile client sends on one connection, byte for byte.
type attack struct {
	name string
	// over is the name that a TLS connection is made for; empty is plain HTTP.
	over string
	sent string
	// status is what the client reads until the connection ends: "200 400" are two answers,
	// "400|" is one or none; got is what containers got.
	status, got string
}

// ended is a request that ends its connection, unless an attack has made it something else.
func ended(host, target string, headers ...string) string {
	return request(host, target, append(headers, "Connection: close")...)
}

func request(host, target string, headers ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

const (
	staff  = "Authorization: Basic YW5uYTpzZWNyZXQ=" // anna:secret
	inside = "GET /smuggled HTTP/1.1\r\nHost: closed.test\r\nConnection: close\r\n\r\n"
)

// framed is a POST whose body is what its headers make of it. What follows is the client's next
// request, or a smuggled one.
func framed(headers, body string) string {
	return "POST /p HTTP/1.1\r\nHost: plain.test\r\n" + headers + "\r\n\r\n" + body + ended("plain.test", "/end")
}

// smuggling has two requests where the containers and nginx could see different ones.
var smuggling = []attack{
	{"CL.TE", "", framed("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\n"+inside), "400", ""},
	{"TE.CL", "", framed("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\n"+inside+"\r\n0\r\n\r\n"), "400", ""},
	{"TE.TE", "", framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"), "400", ""},
	{"TE twice", "", framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "400", ""},
	{"TE misspelt", "", framed("Transfer-Encoding: xchunked", "0\r\n\r\n"), "501|400", ""},
	{"TE with a tab", "", framed("Transfer-Encoding:\tchunked", "0\r\n\r\n"), "200 200|501|400", "plain POST /p; plain GET /end|"},
	{"TE with a vertical tab", "", framed("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), "501|400", ""},
	{"TE with a space before the colon", "", framed("Transfer-Encoding : chunked", "0\r\n\r\n"), "400", ""},
	{"TE after a space", "", framed("X: x\r\n Transfer-Encoding: chunked", "0\r\n\r\n"), "400", ""},
	{"TE after a line feed", "", framed("X: x\nTransfer-Encoding: chunked", "0\r\n\r\n"), "200 200|400", "plain POST /p; plain GET /end|"},
	{"TE after a carriage return", "", framed("X: x\rTransfer-Encoding: chunked", ""), "400", ""},
	{"TE in a list", "", framed("Transfer-Encoding: identity, chunked", "0\r\n\r\n"), "501|400", ""},
	{"TE in capitals", "", framed("TRANSFER-ENCODING: CHUNKED", "0\r\n\r\n"), "200 200", "plain POST /p; plain GET /end"},
	{"TE with an underscore", "", framed("Transfer_Encoding: chunked", ""), "200 200", "plain POST /p; plain GET /end"},
	{"TE with HTTP/1.0", "", "POST /p HTTP/1.0\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"two lengths", "", framed("Content-Length: 0\r\nContent-Length: 94", inside), "400", ""},
	{"one length twice", "", framed("Content-Length: 0\r\nContent-Length: 0", ""), "400", ""},
	{"lengths in a list", "", framed("Content-Length: 0, 94", inside), "400", ""},
	{"a negative length", "", framed("Content-Length: -1", inside), "400", ""},
	{"a length with a sign", "", framed("Content-Length: +0", inside), "400", ""},
	{"a length that overflows", "", framed("Content-Length: 18446744073709551616", inside), "400", ""},
	{"a chunk whose size overflows", "", framed("Transfer-Encoding: chunked", "10000000000000000\r\nx\r\n0\r\n\r\n"), "400", ""},
	{"a chunk whose size is no number", "", framed("Transfer-Encoding: chunked", "0x0\r\n\r\n"+inside), "400", ""},
	{"a chunk with an extension", "", framed("Transfer-Encoding: chunked", "1;x=\"\n\"\r\nx\r\n0\r\n\r\n"), "400|200 200", "|plain POST /p; plain GET /end"},
	{"trailers", "", framed("Transfer-Encoding: chunked\r\nTrailer: Host", "0\r\nHost: closed.test\r\nX-Real-IP: forged\r\n\r\n"), "200 200", "plain POST /p; plain GET /end"},
	{"a body of a GET", "", request("plain.test", "/g", fmt.Sprintf("Content-Length: %d", len(inside))) + inside + ended("plain.test", "/end"), "200 200", "plain GET /g; plain GET /end"},
	{"pipelined", "", request("plain.test", "/1") + request("other.test", "/2") + ended("plain.test", "/3"), "200 200 200", "plain GET /1; other GET /2; plain GET /3"},
	{"pipelined behind 100-continue", "", "POST /p HTTP/1.1\r\nHost: plain.test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx" + ended("plain.test", "/end"), "100 200 200", "plain POST /p; plain GET /end"},
	{"100-continue and a body that is too large", "", "POST /p HTTP/1.1\r\nHost: plain.test\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", "413", ""},
	{"an upgrade that the container refuses", "", request("locked.test", "/refuse", "Upgrade: websocket", "Connection: Upgrade") + ended("locked.test", "/admin"), "426 401", "open GET /refuse"},
	{"an upgrade to h2c", "", ended("locked.test", "/x", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), "200", "open GET /x"},
	{"two upgrades", "", ended("locked.test", "/x", "Upgrade: websocket", "Upgrade: h2c"), "200", "open GET /x"},
	{"two upgrades in one line", "", ended("locked.test", "/x", "Upgrade: websocket,\th2C"), "200", "open GET /x"},
}

// naming has names that could lead to another site than the one whose rules are applied.
var naming = []attack{
	{"an absolute target", "", ended("plain.test", "http://other.test/x"), "200", "other GET /x"},
	{"an absolute target with a port", "", ended("plain.test:81", "http://other.test:82/x"), "200", "other GET /x"},
	{"an absolute target with a user", "", ended("plain.test", "http://plain.test@other.test/x"), "400|404", ""},
	{"an absolute target of a site behind a password", "", ended("plain.test", "http://locked.test/admin"), "401", ""},
	{"an absolute target of a site for others", "tls.test", ended("tls.test", "https://closed.test/x"), "421", ""},
	{"an absolute target without a name", "", ended("plain.test", "http:///x"), "400", ""},
	{"a target without a slash", "", ended("plain.test", "other.test/x"), "400", ""},
	{"a target that is a star", "", "OPTIONS * HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n", "400", ""},
	{"CONNECT", "", "CONNECT other.test:80 HTTP/1.1\r\nHost: plain.test\r\n\r\n", "400|405", ""},
	{"TRACE", "", "TRACE / HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n", "405", ""},
	{"a target with a space", "", ended("plain.test", "/x HTTP/1.1\t/y"), "400", ""},
	{"a target with NUL", "", ended("plain.test", "/x\x00y"), "400", ""},
	{"a target with NUL in an escape", "", ended("plain.test", "/x%00y"), "400", ""},
	{"two names", "", ended("plain.test", "/x", "Host: other.test"), "400", ""},
	{"no name", "", "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n", "400", ""},
	{"no name in HTTP/1.0", "", "GET /x HTTP/1.0\r\n\r\n", "404", ""},
	{"HTTP/0.9", "", "GET /x\r\n", "-", ""},
	{"an empty name", "", ended("", "/x"), "400|404", ""},
	{"a name that nobody has", "", ended("unknown.test", "/x"), "404", ""},
	{"the name of no site", "", ended("_", "/x"), "404", ""},
	{"a name with a port", "", ended("plain.test:8080", "/x"), "200", "plain GET /x"},
	{"a name with a wrong port", "", ended("plain.test:99999", "/x"), "200|400", "plain GET /x|"},
	{"a name with two ports", "", ended("plain.test:80:forged", "/x"), "200|400", "plain GET /x|"},
	{"a name with a port that is a name", "", ended("plain.test:80@other.test", "/x"), "200|400", "plain GET /x|"},
	{"a name with a user", "", ended("plain.test@other.test", "/x"), "400|404", ""},
	{"a name in capitals", "", ended("PLAIN.Test", "/x"), "200", "plain GET /x"},
	{"a name with a dot at its end", "", ended("plain.test.", "/x"), "200", "plain GET /x"},
	{"a name with two dots at its end", "", ended("plain.test..", "/x"), "400", ""},
	{"a name with a path", "", ended("plain.test/x", "/x"), "400", ""},
	{"a name with NUL", "", ended("plain.test\x00other.test", "/x"), "400", ""},
	{"a name with a space", "", ended("plain.test other.test", "/x"), "400", ""},
	{"a name with a tab", "", ended("plain.test\tother.test", "/x"), "400", ""},
	{"a name over two lines", "", "GET /x HTTP/1.1\r\nHost:\r\n plain.test\r\nConnection: close\r\n\r\n", "400", ""},
	{"the name of the connection", "tls.test", ended("tls.test", "/x"), "200", "tls GET /x"},
	{"another name than the connection's", "tls.test", ended("closed.test", "/x"), "421", ""},
	{"another name, by a dot at its end", "tls.test", ended("closed.test.", "/x"), "421", ""},
	{"another name, behind a good request", "tls.test", request("tls.test", "/1") + ended("cert.test", "/2"), "200 421", "tls GET /1"},
	{"a name whose clients need a certificate", "tls.test", ended("cert.test", "/x"), "421", ""},
	{"a name of a plain site over TLS", "tls.test", ended("plain.test", "/x"), "421", ""},
	{"a name that is passed through, over another's TLS", "tls.test", ended("pass.test", "/x"), "421", ""},
	{"a name that nobody has, over TLS", "tls.test", ended("unknown.test", "/x"), "421", ""},
	{"a site for others", "closed.test", ended("closed.test", "/x"), "403", ""},
	{"a site for others, of another name", "closed.test", ended("tls.test", "/x"), "421", ""},
	{"a site with certificates", "cert.test", ended("cert.test", "/x"), "400", ""},
	{"a site with certificates, of another name", "cert.test", ended("tls.test", "/x"), "400|421", ""},
	{"the line of the PROXY protocol", "", "PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\n" + ended("plain.test", "/x"), "400", ""},
	{"plain text where TLS is", ":tls", ended("tls.test", "/x"), "400", ""},
	{"the PROXY protocol where TLS is", ":tls", "PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\n" + ended("tls.test", "/x"), "400|", ""},
}

// telling has headers in which a client says what only nginx may say, or more than it may.
var telling = []attack{
	{"who it is", "", ended("plain.test", "/x", "X-Forwarded-For: forged", "X-Forwarded-For: forged", "x-forwarded-host: forged", "X-FORWARDED-PROTO: forged",
		"X-Forwarded-Port: forged", "X-Forwarded-Scheme: forged", "X-Forwarded-Ssl: forged", "X-Forwarded-Prefix: forged", "X-Real-IP: forged", "Forwarded: for=forged",
		"X-Original-URI: forged", "Proxy: forged"), "200", "plain GET /x"},
	{"another path", "", ended("locked.test", "/x", "X-Original-URL: /forged", "X-Rewrite-URL: /forged"), "200", "open GET /x"},
	{"who it is, with underscores", "", ended("plain.test", "/x", "X_Forwarded_For: forged", "X_Real_IP: forged", "X-Forwarded_For: forged"), "200", "plain GET /x"},
	{"who it is, with other letters", "", ended("plain.test", "/x", "X-Forwarded-For\x01: forged"), "200|400", "plain GET /x|"},
	{"who it is, with a space", "", ended("plain.test", "/x", "X-Real-IP : forged"), "400", ""},
	{"headers of the connection", "", "GET /x HTTP/1.1\r\nHost: plain.test\r\nConnection: close, X-Forwarded-For, X-Real-IP, X-Forwarded-Host, Host, Authorization\r\n\r\n", "200", "plain GET /x"},
	{"a header of 16 KiB", "", ended("plain.test", "/x", "X: "+strings.Repeat("x", 16<<10)), "400|431|494", ""},
	{"many headers", "", ended("plain.test", "/x", strings.Repeat("X: x\r\n", 8000)+"X: x"), "400|431|494", ""},
	{"a target of 16 KiB", "", ended("plain.test", "/"+strings.Repeat("x", 16<<10)), "414", ""},
	{"a header's name of 16 KiB", "", ended("plain.test", "/x", strings.Repeat("x", 16<<10)+": x"), "400|431|494", ""},
	{"a method of 16 KiB", "", strings.Repeat("X", 16<<10) + " / HTTP/1.1\r\nHost: plain.test\r\n\r\n", "400|414", ""},
	{"a header with NUL", "", ended("plain.test", "/x", "X: a\x00b"), "400", ""},
	{"many ranges", "", ended("plain.test", "/x", "Range: bytes=0-"+strings.Repeat(",0-", 2000)), "200", "plain GET /x"},
	{"lines for the log", "", ended("plain.test", "/log?\"\xff", "Referer: \"\x1b[2J\x9b\xff", "User-Agent: \\\" 200 \x7f\x08\t\"}", "Authorization: Basic Ig0KCiI6eA=="), "200", "plain GET /log?\"\xff"},
	{"a line feed for the log", "", ended("plain.test", "/x", "Referer: x\n127.0.0.1 - - forged"), "200|400", "plain GET /x|"},
}

// walled are targets that some application may take for one below /admin, which has a password.
var walled = []string{
	"/admin", "/admin/", "/admin/x", "//admin", "///admin//x", "/%61dmin", "/%61%64%6d%69%6e/x", "/./admin", "/x/../admin", "/x/./../admin/x", "/x/%2e%2e/admin",
	"/x/..%2fadmin", "/x%2f..%2Fadmin", "/%2fadmin", "/%2Fadmin%2fx", "/x/..;/admin", "/..;x/admin", "/.;/admin", "/;/admin", "/;x=y/admin", "/%3bx/admin", "/admin;", "/admin;x", "/admin;/x",
	"/admin;x=y/x", "/admin%3bx", "/admin%3B/x", "/%61dmin;x", "/admin/../x", "/admin/..", "/admin/x/../..", "/admin/%2e%2e/x", "/admin/..%2fx", "/admin%2f..%2fx", "/admin/..;/x",
	"/admin/.%2e/x", "/x/..\\admin", "/x/..%5cadmin", "/\\admin", "/%5cadmin", "/admin\\x", "/admin%5cx", "/x/..\\..\\admin", "/x#/../admin", "/admin#x", "/admin#/../x", "/#/../admin",
	"/admin?x", "/admin%3fx/../admin", "/x/../admin?/../x", "/x/../%61dmin;x?", "/x/\t../admin", "/admin%00", "/x//..//admin", "http://locked.test/admin", "http://locked.test//admin",
	"http://locked.test/admin/../x", "http://locked.test/x/../admin", "http://locked.test/admin;x",
	"/index.php/admin", "/index.php/admin/x", "/x/index.php//admin;x/y", "/index.php%2fadmin?x", "/%69ndex.p%68p/admin",
}

// opened are targets like those that no application takes for one below /admin.
var opened = []string{"/", "/administration", "/x/admin", "/x;y=z/w", "/x;/y;z", "/.well-known/x", "/x..y/...", "/x%2fy", "/x?../admin", "/x?a=\\&b=/..;/", "/x/%61", "/adm;in", "/index.php", "/index.php/x/admin", "/x.phpx/admin", "/x.php/administration"}

// A hostile client reaches no site but the one that it names, and tells a container nothing
// that only nginx may say.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	each(t, testHostileClients)
}

func testHostileClients(t *testing.T, r *rig) {
	r.settings.AccessLog = filepath.Join(r.settings.LogDir, "access.log")
	r.run()
	c := &records{}
	r.serve(r.hostileTable(t, c))
	all := slices.Concat(smuggling, naming, telling)
	for _, target := range walled {
		all = append(all, attack{target, "", ended("locked.test", target), "400|401", ""})
	}
	all = append(all, attack{"with the password", "", ended("locked.test", "/admin/x", staff), "200", "admin GET /admin/x"})
	for _, target := range opened {
		all = append(all, attack{target, "", ended("locked.test", target), "200", "open GET " + target})
	}
	answers := 0
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) {
			status := r.attack(t, a)
			answers += len(strings.Fields(strings.ReplaceAll(status, "100", "")))
			c.expect(t, status, a.status, a.got)
		})
	}
	r.goodLog(t, answers)
	// Where bodies are passed on as they come, a container may see half of a bad one, but no
	// other request.
	for _, a := range smuggling {
		t.Run(a.name+", unbuffered", func(t *testing.T) {
			a.sent = strings.ReplaceAll(a.sent, "plain.test", "unbuffered.test")
			status := r.attack(t, a)
			got, faults := c.heard()
			if strings.HasPrefix(a.status, "4") && strings.HasPrefix(status, "2") {
				t.Errorf("answered with %q, want %q", status, a.status)
			}
			for _, what := range got {
				if !slices.Contains([]string{"unbuffered POST /p", "unbuffered GET /g", "unbuffered GET /1", "other GET /2", "unbuffered GET /3", "unbuffered GET /end", "open GET /x", "open GET /refuse"}, what) {
					t.Errorf("a container got %s", what)
				}
			}
			for _, f := range faults {
				if !strings.Contains(f, ": body: ") {
					t.Error(f)
				}
			}
		})
	}
}

// hostileTable has sites of each kind. Who gets a request of closed.test or without a
// certificate, is wrong.
func (r *rig) hostileTable(t *testing.T, c *records) nginx.Tree {
	t.Helper()
	write(t, filepath.Join(r.settings.HtpasswdDir, "staff"), "anna:{PLAIN}secret\n")
	p := writePair(t, "tls.test", "closed.test", "cert.test")
	ca, _ := authority(t)
	locked := site("locked.test", c.recorder(t, "open", "locked.test", "/admin"))
	admin := spot("/admin", c.recorder(t, "admin", "locked.test", ""))
	admin.Auth = "staff"
	locked.Locations = append(locked.Locations, admin)
	closed := withTLS(site("closed.test", c.recorder(t, "closed", "closed.test", "")), p, route.Redirect)
	closed.Edge.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	known := p
	known.ClientCAFile = ca
	cert := withTLS(site("cert.test", c.recorder(t, "cert", "cert.test", "")), known, route.Redirect)
	cert.Edge.ClientCert = "on"
	unbuffered := site("unbuffered.test", c.recorder(t, "unbuffered", "unbuffered.test", ""))
	unbuffered.Locations[0].Buffering = false
	return r.table(nestedTable{
		Sites: []nestedSite{
			unbuffered,
			site("plain.test", c.recorder(t, "plain", "plain.test", "")), site("other.test", c.recorder(t, "other", "other.test", "")),
			withTLS(site("tls.test", c.recorder(t, "tls", "tls.test", "")), p, route.Redirect), closed, cert, locked,
			{Host: "pass.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(c.recorder(t, "pass", "pass.test", ""))}},
		},
		Streams: []nestedStream{{Listen: route.Listen{Protocol: route.TCP, Port: freePort(t)}, Family: "git", Pool: pool(c.recorder(t, "stream", "stream.test", ""))}},
	})
}

// attack sends an attack and returns the status of each answer until the connection ends.
func (r *rig) attack(t *testing.T, a attack) string {
	t.Helper()
	conn := r.dial(t, a.over, "http/1.1")
	defer conn.Close()
	if _, err := io.WriteString(conn, a.sent); err != nil {
		t.Logf("sending: %v", err) // it was answered before its end
	}
	return answers(t, conn)
}

// dial connects to the public port of HTTP, or for a name to that of HTTPS; ":tls" is
// the latter without TLS.
func (r *rig) dial(t *testing.T, over, protocol string) net.Conn {
	t.Helper()
	port := r.settings.HTTPSPort
	if over == "" {
		port = r.settings.HTTPPort
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(3 * time.Minute))
	if over == "" || over == ":tls" {
		return conn
	}
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: over, NextProtos: []string{protocol}})
}

// answers reads answers to the end of a connection; "-" is what is none.
func answers(t *testing.T, conn net.Conn) string {
	t.Helper()
	var all []string
	for in := bufio.NewReader(conn); ; {
		if _, err := in.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection does not end")
			}
			return strings.Join(all, " ")
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return strings.Join(append(all, "-"), " ")
		}
		io.Copy(io.Discard, res.Body)
		all = append(all, fmt.Sprint(res.StatusCode))
	}
}

// logged is a line of the access log. An answer that nginx gives before it looks at where a
// connection is from shows the socket behind the stream section.
var logged = regexp.MustCompile(`^(127\.0\.0\.1|unix:) - \S+ \[[^]]*\] \S+ "[^"]*" \d+ \d+ "[^"]*" "[^"]*" `)

// goodLog looks for lines in the access log that no request made, and for what a
// terminal would act on.
func (r *rig) goodLog(t *testing.T, answers int) {
	t.Helper()
	b, err := os.ReadFile(r.settings.AccessLog)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	if len(lines) != answers {
		t.Errorf("%d lines in the log of %d answers", len(lines), answers)
	}
	for _, line := range lines {
		if bytes.ContainsFunc(line, unicode.IsControl) || !logged.Match(line) {
			t.Errorf("a line of the log: %q", line)
		}
	}
}
