package problem

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable makes a text from elsewhere fit for one line of a terminal: what is
// not printable becomes a space, a byte that is no UTF-8 the replacement character,
// and what is longer than most bytes is cut.
func Printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Quoted quotes a text from elsewhere, and cuts what is longer than 64 bytes.
func Quoted(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
