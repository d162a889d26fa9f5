package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// limit is the value of --kill-after: a span or a factor. Zero is none.
type limit struct {
	span   time.Duration
	factor float64
}

// Set implements pflag.Value.
func (l *limit) Set(text string) error {
	var x limit
	var err error
	if factor, ok := strings.CutSuffix(text, "x"); ok {
		if x.factor, err = strconv.ParseFloat(factor, 64); err != nil || !(x.factor > 1 && x.factor <= 1e6) {
			return fmt.Errorf("%q is not a factor above 1 such as 3x", text)
		}
	} else if x.span, err = time.ParseDuration(text); err != nil || x.span < 0 {
		return fmt.Errorf("%q is neither a duration such as 90m nor a factor such as 3x", text)
	}
	*l = x
	return nil
}

// Type implements pflag.Value.
func (l *limit) Type() string { return "duration|factor" }

// String implements pflag.Value.
func (l *limit) String() string {
	if l.factor > 0 {
		return strconv.FormatFloat(l.factor, 'g', -1, 64) + "x"
	}
	if l.span == 0 {
		return "0"
	}
	return l.span.String()
}

// exceeded says in words how the limit is exceeded; empty where it is not.
func (l *limit) exceeded(ran time.Duration, spent, expected float64) string {
	switch {
	case l.span > 0 && ran >= l.span:
		return fmt.Sprintf("it has run for %s", ran.Round(time.Second))
	case l.factor > 0 && expected > 0 && spent >= l.factor*expected:
		return fmt.Sprintf("it has spent %.2f credits, and %.2f were expected", spent, expected)
	}
	return ""
}
