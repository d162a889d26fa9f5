package nginx

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// text writes configuration text, and notes the facts of it. Every value passes through
// quote, so that no value can end a directive or begin another.
type text struct {
	settings Settings
	build    Build
	needs    needs
	quic     bool // the site offers HTTP/3
	levels   levels

	out   strings.Builder
	depth int
	facts Facts
}

// server writes one server of an upstream.
func (t *text) server(addr string, args ...string) {
	t.set("server", append([]string{addr}, args...)...)
	t.facts.Servers = append(t.facts.Servers, addr)
}

// overQUIC writes lines of a site for HTTP/3, which the tree may have to do without.
func (t *text) overQUIC(port uint16, write func()) {
	begin := t.out.Len() - 1
	write()
	lines := t.out.String()[begin : t.out.Len()-1]
	if t.facts.QUIC = port; !slices.Contains(t.facts.QUICLines, lines) {
		t.facts.QUICLines = append(t.facts.QUICLines, lines)
	}
}

// socket writes a unix socket at which a server listens for other parts of nginx, or for
// the agent.
func (t *text) socket(path string, args ...string) {
	t.set("listen", append([]string{"unix:" + path}, args...)...)
	t.facts.Sockets = append(t.facts.Sockets, path)
}

// certificate writes the files of a certificate and its key.
func (t *text) certificate(c certs.Pair) {
	t.comment("Certificate " + truncated(c.Name) + ", SHA-256 " + c.Fingerprint)
	if c.ClientFingerprint != "" {
		t.comment("Authority for clients, SHA-256 " + c.ClientFingerprint)
	}
	t.set("ssl_certificate", c.CertFile)
	t.set("ssl_certificate_key", c.KeyFile)
}

// set writes a directive.
func (t *text) set(name string, args ...string) {
	t.words(name, args)
	t.out.WriteString(";\n")
}

// setGiven writes a directive with one value, unless the value is empty.
func (t *text) setGiven(name, value string) {
	if value != "" {
		t.set(name, value)
	}
}

// setEach writes a directive for each value.
func (t *text) setEach(name string, values []string) {
	for _, v := range values {
		t.set(name, v)
	}
}

// block writes a directive with a block.
func (t *text) block(name string, args []string, body func()) {
	t.words(name, args)
	t.out.WriteString(" {\n")
	t.depth++
	body()
	t.depth--
	t.indent()
	t.out.WriteString("}\n")
}

// returnIf writes an if with a return in it; the condition is a constant of this package, or
// has been through quote.
func (t *text) returnIf(condition string, args ...string) {
	t.block("if ("+condition+")", nil, func() { t.set("return", args...) })
}

// choose writes the map of the variable $nagaya_NAME: of is looked up in cases, which are pairs.
func (t *text) choose(of, name, otherwise string, cases ...string) {
	t.block("map", []string{of, "$nagaya_" + name}, func() {
		t.set("default", otherwise)
		for i := 0; i+1 < len(cases); i += 2 {
			t.set(quote(cases[i]), cases[i+1])
		}
	})
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

// quote makes one word of s for nginx's parser, which ends a bare word at white
// space, ';' and '{'. Inside double quotes it takes the backslash away from \"
// and \\, and reads \n as a new line (nginx source, ngx_conf_read_token). quote cannot
// take the meaning from '$': values that might hold one are refused earlier.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("._/:@%+=,*[]-$!?&~<>", r) }) {
		return s
	}
	return `"` + escape.Replace(s) + `"`
}

var escape = strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`)

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// seconds writes a duration for nginx, in whole seconds if it is, else in milliseconds.
func seconds(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(max(1, d.Milliseconds()), 10) + "ms"
}

// onOff writes a switch.
func onOff(is bool) string {
	if is {
		return "on"
	}
	return "off"
}

// number writes an integer.
func number[T int | int64 | uint16](n T) string { return strconv.FormatInt(int64(n), 10) }
