// Package problem has the form of everything that is wrong and stays wrong:
// a value that status, metrics and the journal show, and that disappears when
// its cause does. A problem is not an error: errors
// travel up a call stack, problems stay in the status until their cause is gone.
package problem

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Severity is how bad a problem is.
type Severity int

const (
	// Warning: nothing that should be served is lost yet.
	Warning Severity = iota
	// Error: something that was asked for is not being done.
	Error
)

// String returns "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// MarshalText makes JSON show the word instead of the number.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote; any other word is Warning.
func (s *Severity) UnmarshalText(b []byte) error {
	*s = Warning
	if string(b) == "error" {
		*s = Error
	}
	return nil
}

// Problem is one standing problem. Code and Subject together are its identity:
// two problems with the same pair are the same problem at different times.
type Problem struct {
	// Code is a stable kebab-case word that scripts may match, e.g. "label-invalid".
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Subject is what has the problem, e.g. "container web-1", "site a.example.com", "address eipalloc-1".
	Subject string `json:"subject"`
	// Container, Host, Claim, Job, Port and File are what the problem is about, in fields that
	// programs read in place of Subject. Each is empty where it does not apply. Container is
	// the name as in tasks.Container.Ref; Host is a host name, or protocol and port of a
	// stream as in "tcp:2222"; Claim is an entry of address.claim; Job is a job's id.
	Container string `json:"container,omitempty"`
	Host      string `json:"host,omitempty"`
	Claim     string `json:"claim,omitempty"`
	Job       string `json:"job,omitempty"`
	Port      uint16 `json:"port,omitempty"`
	File      string `json:"file,omitempty"`
	// Text says what is wrong, in one sentence without a full stop. Text from outside in it is quoted and bounded.
	Text string `json:"text"`
	// Hint says what the operator can do about it; never empty.
	Hint string `json:"hint"`
	// Since is when the problem was first seen; filled in by the board, zero before.
	Since time.Time `json:"since,omitzero"`
}

// Of is an error about that subject; format and args make its text.
func Of(subject, code, hint, format string, args ...any) Problem {
	return Problem{Code: code, Severity: Error, Subject: subject, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// OfContainer is an error about the container of that Ref.
func OfContainer(ref, code, hint, format string, args ...any) Problem {
	p := Of("container "+ref, code, hint, format, args...)
	p.Container = ref
	return p
}

// OfHost is an error about the site of that host.
func OfHost(host, code, hint, format string, args ...any) Problem {
	p := Of("site "+host, code, hint, format, args...)
	p.Host = host
	return p
}

// AsWarning is the same problem where it takes nothing away yet.
func (p Problem) AsWarning() Problem {
	p.Severity = Warning
	return p
}

// Sort orders problems worst first, then by code and subject, so that two equal
// sets always look the same.
func Sort(ps []Problem) {
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Subject, b.Subject),
			cmp.Compare(a.Text, b.Text),
		)
	})
}

// Each makes one problem of each error that is joined in err, by giving p the first line
// of its text: a parser shows the place in further ones. What the error's method Subject
// returns, if it has one, is added to the subject.
func Each(p Problem, err error) []Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Problem
		for _, e := range joined.Unwrap() {
			all = append(all, Each(p, e)...)
		}
		return all
	}
	var about interface{ Subject() string }
	if errors.As(err, &about) {
		p.Subject = strings.TrimSpace(p.Subject + " " + about.Subject())
	}
	p.Text, _, _ = strings.Cut(err.Error(), "\n")
	return []Problem{p}
}

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

// Counted is a number of things of a name that takes an s when there are several.
func Counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Quoted quotes a text from elsewhere, and cuts what is longer than 64 bytes.
func Quoted(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
