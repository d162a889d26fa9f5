package nginx

import (
	"fmt"
	"strings"
)

// directive is one directive as an independent reader sees it.
type directive struct {
	name string
	args []string
	in   string // names of the blocks around it, joined by '/'
}

// readTokens reads configuration text by nginx's documented lexical rules, and
// shares nothing with the code that writes it.
func readTokens(s string) ([]directive, error) {
	var (
		out   []directive
		words []string
		stack []string
	)
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '#':
			for i < len(s) && s[i] != '\n' {
				i++
			}
		case ';', '{':
			if len(words) == 0 {
				return nil, fmt.Errorf("%q without a directive at byte %d", c, i)
			}
			out = append(out, directive{words[0], words[1:], strings.Join(stack, "/")})
			if c == '{' {
				stack = append(stack, words[0])
			}
			words = nil
			i++
		case '}':
			if len(words) > 0 || len(stack) == 0 {
				return nil, fmt.Errorf("unexpected } at byte %d", i)
			}
			stack = stack[:len(stack)-1]
			i++
		case '"', '\'':
			end := i + 1
			var w strings.Builder
			for ; ; end++ {
				if end >= len(s) {
					return nil, fmt.Errorf("open quote at byte %d", i)
				}
				if s[end] == c {
					break
				}
				if s[end] == '\\' && end+1 < len(s) {
					switch s[end+1] {
					case '\\', '"', '\'':
						end++
						w.WriteByte(s[end])
						continue
					case 'n':
						end++
						w.WriteByte('\n')
						continue
					}
				}
				w.WriteByte(s[end])
			}
			i = end + 1
			if i < len(s) && !strings.ContainsRune(" \t\r\n;{)", rune(s[i])) {
				return nil, fmt.Errorf("text directly after a quote at byte %d", i)
			}
			words = append(words, w.String())
		default:
			end := i
			for end < len(s) && !strings.ContainsRune(" \t\r\n;{", rune(s[end])) {
				if s[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(s))
			words = append(words, s[i:end])
			i = end
		}
	}
	if len(words) > 0 || len(stack) > 0 {
		return nil, fmt.Errorf("the text ends inside %v %v", stack, words)
	}
	return out, nil
}
