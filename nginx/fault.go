package nginx

import (
	"net/netip"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Fault is an error with the problem that stands while it lasts. Its Subject is "nginx"
// where nothing else is set.
type Fault struct {
	problem.Problem
	// Err is the cause; may be nil.
	Err error
	// Retry is the longest pause before the next try; 0 leaves it to the usual pause.
	Retry time.Duration
}

// NewFault returns a fault without a subject. cause may be nil.
func NewFault(cause error, code, text, hint string) *Fault {
	return &Fault{Err: cause, Problem: problem.Problem{Code: code, Severity: problem.Error, Text: text, Hint: hint}}
}

func (f *Fault) Error() string { return f.Text }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// BindForbidden reports whether nginx's message says that it may not bind a port.
func BindForbidden(reason string) bool {
	return strings.Contains(reason, "bind() to ") && strings.Contains(reason, "Permission denied")
}

// UnboundPort returns the port that nginx's message says it could not bind, 0 for none.
func UnboundPort(reason string) uint16 {
	rest, _ := strings.CutPrefix(reason, "bind() to ")
	at, _, _ := strings.Cut(rest, " failed ")
	addr, _ := netip.ParseAddrPort(at)
	return addr.Port()
}

// LastEmerg returns the last "[emerg]" message of what nginx printed to its stderr,
// bounded. The message "still could not bind()" is left out.
func LastEmerg(output string) string {
	last := ""
	for line := range strings.Lines(output) {
		_, message, found := strings.Cut(strings.TrimSuffix(line, "\n"), "[emerg] ")
		if !found {
			continue
		}
		// A process and thread number may come before it: "123#123: ".
		if number, rest, ok := strings.Cut(message, ": "); ok && strings.Trim(number, "0123456789#") == "" {
			message = rest
		}
		if !strings.HasPrefix(message, "still could not bind") {
			last = message
		}
	}
	return Printable(last)
}

// Printable bounds a text from nginx or the system and makes it fit to be shown.
func Printable(s string) string { return problem.Printable(s, 400) }
