package nginx

import (
	"strings"
	"unicode"
)

// text writes configuration text. Every value passes through quote, so that no
// value can end a directive or begin another.
type text struct {
	b     strings.Builder
	depth int
}

func (t *text) set(name string, args ...string) {
	t.words(name, args)
	t.b.WriteString(";\n")
}

func (t *text) block(name string, args []string, body func()) {
	t.words(name, args)
	t.b.WriteString(" {\n")
	t.depth++
	body()
	t.depth--
	t.indent()
	t.b.WriteString("}\n")
}

func (t *text) words(name string, args []string) {
	t.indent()
	t.b.WriteString(name)
	for _, a := range args {
		t.b.WriteByte(' ')
		t.b.WriteString(quote(a))
	}
}

// comment writes one line of comment; what could end the line is replaced.
func (t *text) comment(s string) {
	t.indent()
	t.b.WriteString("# ")
	t.b.WriteString(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s))
	t.b.WriteByte('\n')
}

func (t *text) blank() { t.b.WriteByte('\n') }

func (t *text) indent() {
	for range t.depth {
		t.b.WriteString("    ")
	}
}

func (t *text) String() string { return t.b.String() }

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
