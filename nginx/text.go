package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"unicode"
)

// text writes configuration text, and notes what is in it. Every value passes through
// quote, so that no value can end a directive or begin another.
type text struct {
	settings Settings
	build    Build
	needs    needs
	quic     bool // the site offers HTTP/3

	out   strings.Builder
	depth int
	facts Facts
	// servers are where lines of servers begin and end in out.
	servers [][2]int
}

// server writes one server of an upstream.
func (t *text) server(addr string, args ...string) {
	begin := t.out.Len()
	t.set("server", append([]string{addr}, args...)...)
	t.facts.Servers = append(t.facts.Servers, addr)
	t.servers = append(t.servers, [2]int{begin, t.out.Len()})
}

// socket writes where a server listens for other parts of nginx, or for the agent.
func (t *text) socket(path string, args ...string) {
	t.set("listen", append([]string{"unix:" + path}, args...)...)
	t.facts.Sockets = append(t.facts.Sockets, path)
}

// certificate writes the file of a certificate.
func (t *text) certificate(file string) {
	t.set("ssl_certificate", file)
	t.facts.Certificates = append(t.facts.Certificates, file)
}

// written returns the text and what is in it.
func (t *text) written() (string, Facts) {
	all, from := t.out.String(), 0
	h := sha256.New()
	for _, s := range t.servers {
		io.WriteString(h, all[from:s[0]])
		from = s[1]
	}
	io.WriteString(h, all[from:])
	t.facts.Shape = hex.EncodeToString(h.Sum(nil)[:8])
	return all, t.facts
}

func (t *text) set(name string, args ...string) {
	t.words(name, args)
	t.out.WriteString(";\n")
}

func (t *text) block(name string, args []string, body func()) {
	t.words(name, args)
	t.out.WriteString(" {\n")
	t.depth++
	body()
	t.depth--
	t.indent()
	t.out.WriteString("}\n")
}

func (t *text) words(name string, args []string) {
	t.indent()
	t.out.WriteString(name)
	for _, a := range args {
		t.out.WriteByte(' ')
		t.out.WriteString(quote(a))
	}
}

// comment writes one line of comment; what could end the line is replaced.
func (t *text) comment(s string) {
	t.indent()
	t.out.WriteString("# ")
	t.out.WriteString(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s))
	t.out.WriteByte('\n')
}

func (t *text) blank() { t.out.WriteByte('\n') }

func (t *text) indent() {
	for range t.depth {
		t.out.WriteString("    ")
	}
}

// quote makes one word of s for nginx's reader, which ends a bare word at white
// space, ';' and '{'. Inside double quotes it takes the backslash away from \"
// and \\, and reads \n as a new line (nginx source, ngx_conf_read_token). quote cannot
// take the meaning from '$': values that might hold one are refused earlier.
func quote(s string) string {
	if bare(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func bare(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("._/:@%+=,*[]-$!?&~<>", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
