package nginxproxy

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
)

const (
	maxExpression = 200 // bytes
	maxSize       = 500 // nodes, with counted repetitions written out
)

// checkExpression says why a container's regular expression is not given to
// nginx. Go's syntax is nearly PCRE's without back references and look-around.
// Named groups would become variables of nginx; repetitions of repetitions can
// take PCRE exponential time.
func checkExpression(expr string) error {
	if expr == "" || len(expr) > maxExpression {
		return fmt.Errorf("a regular expression has 1 to %d bytes", maxExpression)
	}
	for i := range len(expr) {
		if expr[i] <= ' ' || expr[i] > '~' {
			return errors.New("a regular expression holds no spaces and nothing beyond ASCII")
		}
	}
	// Both read \Q as the begin of a quotation, but not its end alike.
	if strings.Contains(expr, `\Q`) {
		return errors.New(`a regular expression holds no \Q`)
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return errors.New("not a regular expression that both Go and nginx understand (no look-around, no back references)")
	}
	return checkNode(re, 0, new(int))
}

// checkNode walks over the parsed expression; loops counts the repetitions around re.
func checkNode(re *syntax.Regexp, loops int, size *int) error {
	*size++
	switch re.Op {
	case syntax.OpCapture:
		if re.Name != "" {
			return errors.New("a regular expression has no named groups")
		}
	case syntax.OpStar, syntax.OpPlus:
		loops++
	case syntax.OpRepeat:
		*size += max(re.Min, re.Max)
		if re.Max < 0 || re.Max > 1 {
			loops++
		}
	}
	if loops > 1 {
		return errors.New("a regular expression has no repetition within a repetition")
	}
	if *size > maxSize {
		return errors.New("a regular expression that is too large")
	}
	for _, sub := range re.Sub {
		if err := checkNode(sub, loops, size); err != nil {
			return err
		}
	}
	return nil
}
