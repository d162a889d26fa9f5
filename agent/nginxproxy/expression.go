package nginxproxy

import (
	"errors"
	"fmt"
	"math"
	"regexp/syntax"
	"strconv"
	"strings"
)

const (
	maxExpression = 200 // bytes
	// longestLine is what nginx reads of a request line (nginx.org, large_client_header_buffers).
	longestLine = 8 << 10
	// maxSteps bounds the steps that PCRE may take for the longest line: 128 for each byte,
	// which is some 10 ms.
	maxSteps = 128 * longestLine
)

// checkExpression says why a container's regular expression is not given to nginx. It takes
// what Go and PCRE read alike, and of that only what PCRE, which goes back and tries again,
// has done with after a number of steps that is linear in the length of the request line.
func checkExpression(expr string) error {
	if expr == "" || len(expr) > maxExpression {
		return fmt.Errorf("a regular expression has 1 to %d bytes", maxExpression)
	}
	if strings.ContainsFunc(expr, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("a regular expression holds no spaces and nothing beyond ASCII")
	}
	if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
		return errors.New("not a regular expression that both Go and nginx understand (no look-around, no back references)")
	}
	e := expressionReader{rest: expr}
	work := e.alternatives()
	switch {
	case e.err != nil:
		return e.err
	case e.rest != "":
		return errors.New("not a regular expression that both Go and nginx understand")
	case !work.anchored && work.steps*longestLine > maxSteps, !(work.steps <= maxSteps):
		return errors.New("a regular expression that can take nginx too long: begin it with ^, use one * or + at most, and {1,8} instead of others")
	}
	return nil
}

// work bounds what PCRE does with a part of an expression at one position of the longest
// line: the ways in which the part can match there, and the steps to try all of them.
type work struct {
	ways, steps float64
	anchored    bool // it matches at the beginning only
}

// then is the work of a part and what follows it, which is tried again after each way.
func (w work) then(next work) work {
	return work{w.ways * next.ways, w.steps + w.ways*next.steps, w.anchored || next.anchored && w.ways == 1}
}

// repeated is the work of a part that is there lo to hi times.
func (w work) repeated(lo, hi int) work {
	all := work{steps: 1}
	ways := 1.0
	for n := 0; n <= hi && all.steps <= maxSteps; n++ {
		if n >= lo {
			all.ways += ways
		}
		all.steps += ways * w.steps
		ways *= w.ways
	}
	if all.steps > maxSteps {
		all.ways = math.Inf(1)
	}
	return all
}

// expressionReader reads an expression that Go's parser accepts, as it is written: that
// parser merges parts which PCRE tries one after the other.
type expressionReader struct {
	rest string
	err  error
}

func (e *expressionReader) fail(why string) {
	if e.err == nil {
		e.err = errors.New("a regular expression holds no " + why)
	}
	e.rest = ""
}

// alternatives reads up to a closing parenthesis or the end.
func (e *expressionReader) alternatives() work {
	all := e.sequence()
	for strings.HasPrefix(e.rest, "|") {
		e.rest = e.rest[1:]
		next := e.sequence()
		all = work{all.ways + next.ways, all.steps + next.steps, all.anchored && next.anchored}
	}
	return all
}

func (e *expressionReader) sequence() work {
	all := work{ways: 1, steps: 1}
	for e.rest != "" && e.rest[0] != '|' && e.rest[0] != ')' {
		all = all.then(e.quantifier(e.atom()))
	}
	return all
}

// atom reads what a quantifier may follow.
func (e *expressionReader) atom() work {
	first := e.rest[0]
	e.rest = e.rest[1:]
	one := work{ways: 1, steps: 1, anchored: first == '^'}
	switch first {
	case '(':
		if rest, ok := strings.CutPrefix(e.rest, "?:"); ok {
			e.rest = rest
		} else if strings.HasPrefix(e.rest, "?") {
			e.fail("named groups, and no flags")
		}
		one = e.alternatives()
		e.rest = strings.TrimPrefix(e.rest, ")")
	case '[':
		e.class()
	case '\\':
		e.escape()
	case '{':
		e.fail("brace that is not behind what it repeats; write \\{")
	}
	return one
}

// escape reads what is behind a backslash.
func (e *expressionReader) escape() {
	if e.rest == "" || strings.ContainsAny(e.rest[:1], "0123456789ACEFGHIJKLMNOPQRTUVXYZaefghijklmnopqrtuvxyz") {
		e.fail(`escapes of letters and digits but \d \w \s \D \W \S \b`)
		return
	}
	e.rest = e.rest[1:]
}

// class reads a class of characters behind its opening bracket.
func (e *expressionReader) class() {
	e.rest = strings.TrimPrefix(e.rest, "^")
	if strings.HasPrefix(e.rest, "]") {
		e.fail("bracket as the first of a class; write \\]")
	}
	for e.rest != "" {
		first := e.rest[0]
		e.rest = e.rest[1:]
		switch first {
		case ']':
			return
		case '[':
			e.fail("bracket within a class, such as [:alpha:]; write \\[")
		case '\\':
			e.escape()
		}
	}
}

// quantifier reads how often w is repeated, if it is.
func (e *expressionReader) quantifier(w work) work {
	if e.rest == "" || !strings.ContainsAny(e.rest[:1], "*+?{") {
		return w
	}
	lo, hi := 0, longestLine
	switch sign := e.rest[0]; sign {
	case '+':
		lo = 1
	case '?':
		hi = 1
	case '{':
		counts, rest, _ := strings.Cut(e.rest[1:], "}")
		least, most, two := strings.Cut(counts, ",")
		var err error
		if lo, err = strconv.Atoi(least); err == nil && !two {
			hi = lo
		} else if err == nil && most != "" {
			hi, err = strconv.Atoi(most)
		}
		if err != nil {
			e.fail("brace that is not {2}, {2,} or {2,3}")
			return w
		}
		e.rest = "}" + rest
	}
	e.rest = strings.TrimPrefix(e.rest[1:], "?")
	return w.repeated(lo, hi)
}
