package nginx

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Directive is one directive of a configuration that others wrote.
type Directive struct {
	Name string
	Args []string
	// Block are the directives in its block, if it has one. What is in a block of another
	// language (Lua) is left out.
	Block []Directive
}

// eachDirective calls do for all of them, and for those in their blocks.
func eachDirective(all []Directive, do func(Directive)) {
	for _, d := range all {
		do(d)
		eachDirective(d.Block, do)
	}
}

// maxNesting is how deep blocks may be in each other. nginx's own have five levels.
const maxNesting = 50

// ParseDirectives reads configuration text as nginx does (nginx source, ngx_conf_read_token):
// a word ends at white space, ';' or '{', but for that of "${"; a quoted one at its quote,
// behind which a word ends; a comment begins where a word could. The error names the line.
func ParseDirectives(s string) ([]Directive, error) {
	all, _, err := Expand(s, nil)
	return all, err
}

// Expand is ParseDirectives, and returns the text with what included returns in place of
// each directive include. Where that is "", the directive stays.
func Expand(s string, included func(arg string) string) ([]Directive, string, error) {
	r := &reader{text: s, line: 1, whole: s, included: included}
	all, err := r.block(0)
	if err != nil {
		return nil, "", fmt.Errorf("line %d: %w", r.line, err)
	}
	return all, r.expanded.String() + s[r.copied:], nil
}

// reader reads text from its begin.
type reader struct {
	text string
	line int

	// What is included in it, see Expand; expanded is the text up to copied of the whole.
	whole    string
	included func(arg string) string
	expanded strings.Builder
	copied   int
}

// at is how much has been read.
func (r *reader) at() int { return len(r.whole) - len(r.text) }

// include puts what a directive includes, which began there and has been read, in its place.
func (r *reader) include(d Directive, begin int) {
	if r.included == nil || d.Name != "include" || len(d.Args) != 1 {
		return
	}
	if text := r.included(d.Args[0]); text != "" {
		r.expanded.WriteString(r.whole[r.copied:begin])
		r.expanded.WriteString(text)
		r.copied = r.at()
	}
}

// block reads directives up to the end of the text, or of the block where depth is not 0.
func (r *reader) block(depth int) (all []Directive, err error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("there are more than %d blocks in each other", maxNesting)
	}
	var words []string
	begin := 0 // of the first of them
	for {
		r.skipSpace()
		if r.text == "" {
			if depth > 0 || len(words) > 0 {
				return nil, fmt.Errorf("the text ends inside a directive or block")
			}
			return all, nil
		}
		c := r.text[0]
		if strings.IndexByte(";{}", c) < 0 {
			if len(words) == 0 {
				begin = r.at()
			}
			word, err := r.word()
			if err != nil {
				return nil, err
			}
			words = append(words, word)
			continue
		}
		if (c == '}') != (len(words) == 0) || c == '}' && depth == 0 {
			return nil, fmt.Errorf("unexpected %q", c)
		}
		r.skip(1)
		if c == '}' {
			return all, nil
		}
		d := Directive{Name: words[0], Args: slices.Clone(words[1:])}
		switch {
		case c == ';':
			r.include(d, begin)
		case strings.HasSuffix(d.Name, "_by_lua_block"):
			err = r.lua()
		default:
			d.Block, err = r.block(depth + 1)
		}
		if err != nil {
			return nil, err
		}
		all, words = append(all, d), nil
	}
}

// skip skips n bytes.
func (r *reader) skip(n int) {
	r.line += strings.Count(r.text[:n], "\n")
	r.text = r.text[n:]
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skipSpace skips white space and comments.
func (r *reader) skipSpace() {
	for r.text != "" {
		switch {
		case isSpace(r.text[0]):
			r.skip(1)
		case r.text[0] == '#':
			end := strings.IndexByte(r.text, '\n') + 1
			if end == 0 {
				end = len(r.text)
			}
			r.skip(end)
		default:
			return
		}
	}
}

// word reads one word, quoted or not.
func (r *reader) word() (string, error) {
	quote, i := r.text[0], 1
	if quote != '"' && quote != '\'' {
		quote, i = 0, 0
	}
	variable := false
	for begin := i; ; i++ {
		if i >= len(r.text) {
			return "", fmt.Errorf("the text ends inside a word")
		}
		c, opens := r.text[i], variable && r.text[i] == '{'
		variable = c == '$'
		switch {
		case opens:
		case c == '\\':
			i++
		case quote != 0 && c == quote:
			word := escapes.Replace(r.text[begin:i])
			r.skip(i + 1)
			if r.text != "" && !isSpace(r.text[0]) && strings.IndexByte(";{)", r.text[0]) < 0 {
				return "", fmt.Errorf("unexpected %q behind a quote", r.text[0])
			}
			return word, nil
		case quote == 0 && (isSpace(c) || c == ';' || c == '{'):
			word := escapes.Replace(r.text[begin:i])
			r.skip(i)
			return word, nil
		}
	}
}

// escapes are the backslashes that nginx takes away.
var escapes = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\'`, `'`, `\t`, "\t", `\r`, "\r", `\n`, "\n")

// luaToken is what may hold a brace in Lua, or is one: a comment, a string, in long brackets of
// up to two levels too, and a brace (Lua 5.1 manual, 2.1).
var luaToken = regexp.MustCompile(`(?s)(?:--)?(?:\[\[.*?\]\]|\[=\[.*?\]=\]|\[==\[.*?\]==\])|--[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{}]`)

// lua skips a block of Lua.
func (r *reader) lua() error {
	depth := 1
	for _, at := range luaToken.FindAllStringIndex(r.text, -1) {
		switch r.text[at[0]:at[1]] {
		case "{":
			depth++
		case "}":
			depth--
		}
		if depth == 0 {
			r.skip(at[1])
			return nil
		}
	}
	return fmt.Errorf("the text ends inside a block of Lua")
}
