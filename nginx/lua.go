package nginx

import (
	"fmt"
	"strings"
)

// lua skips a block of Lua, in which strings and comments may hold braces (Lua 5.1 manual, 2.1).
func (r *reader) lua() error {
	for depth := 1; depth > 0; {
		i := strings.IndexAny(r.text, `{}"'[-`)
		if i < 0 {
			break
		}
		r.skip(i)
		comment := strings.HasPrefix(r.text, "--")
		if comment {
			r.skip(2)
		}
		end := longBracket(r.text)
		switch c := r.text[:min(1, len(r.text))]; {
		case end > 0: // a long string or comment
			r.skip(end)
		case comment:
			if end = strings.IndexByte(r.text, '\n'); end < 0 {
				return fmt.Errorf("the text ends inside a comment of Lua")
			}
			r.skip(end)
		case c == `"` || c == "'":
			for end = 1; end < len(r.text) && r.text[end] != c[0]; end++ {
				if r.text[end] == '\\' {
					end++
				}
			}
			if end >= len(r.text) {
				return fmt.Errorf("the text ends inside a string of Lua")
			}
			r.skip(end + 1)
		default:
			r.skip(1)
			depth += strings.Count(c, "{") - strings.Count(c, "}")
			if depth == 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("the text ends inside a block of Lua")
}

// longBracket returns the length of a string of Lua in long brackets, such as [==[ … ]==], that
// s begins with; 0 if it does not.
func longBracket(s string) int {
	if !strings.HasPrefix(s, "[") {
		return 0
	}
	equals := s[1 : len(s)-len(strings.TrimLeft(s[1:], "="))]
	if !strings.HasPrefix(s[1+len(equals):], "[") {
		return 0
	}
	begin := len(equals) + 2
	end := strings.Index(s[begin:], "]"+equals+"]")
	if end < 0 {
		return len(s)
	}
	return begin + end + len(equals) + 2
}
