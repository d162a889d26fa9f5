// Package accesslog reads what nginx adds to its logs, and has it counted. Which connections to containers
// are open it asks the kernel.
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/sockdiag"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

const (
	// every is how often the logs are looked at, if nobody asks.
	every = 10 * time.Second
	// atOnce is how much of a log is read in one go, in bytes: some ten milliseconds. Where the lines take longer
	// it ends after patience, for whoever asks for the status waits.
	atOnce   = 4 << 20
	patience = 100 * time.Millisecond
)

// Logs are nginx's logs, read and counted as long as the agent runs.
type Logs struct {
	mu                 sync.Mutex
	counter            *traffic.Counter
	where              nginx.Logs
	requests, sessions log
	buf                []byte
}

// log is one of them.
type log struct {
	tail
	// formats are the one in force and those from before, the newest first: workers from before a reload
	// write on until they end.
	formats []traffic.Format
	format  nginx.Log
	err     error
}

// mostFormats bounds the formats that a line is tried with.
const mostFormats = 3

// to changes where is logged, and how.
func (l *log) to(n nginx.Log) {
	l.tail.to(n.Path)
	if l.format != n || l.formats == nil {
		l.format = n
		l.formats = append([]traffic.Format{traffic.Compile(n)}, l.formats[:min(len(l.formats), mostFormats-1)]...)
	}
}

// each reads what has been added, and gives each line to count with one format after the other, until it returns true.
func (l *log) each(buf []byte, count func(*traffic.Format, []byte) bool) (more bool) {
	more, l.err = l.read(buf, atOnce, time.Now(), func(line []byte) {
		for i := range l.formats {
			if count(&l.formats[i], line) {
				return
			}
		}
	})
	return more
}

// New returns logs of which nothing has been read.
func New() *Logs {
	return &Logs{counter: traffic.New(time.Now()), where: nginx.Logs{Requests: nginx.Log{Off: "it is not known yet where nginx logs"}}, buf: make([]byte, 4*longest)}
}

// Run follows the newest table and what nginx logs, until ctx ends, and then returns nil. Another Run goes on from there.
func (l *Logs) Run(ctx context.Context, offers <-chan nginx.Offer) error {
	for due := time.NewTicker(every); ; {
		select {
		case <-ctx.Done():
			due.Stop()
			return nil
		case o := <-offers:
			l.set(o)
		case <-due.C:
		}
		for l.read() && backoff.Sleep(ctx, time.Millisecond) { // others come in between
		}
	}
}

// set takes a table, and where is logged.
func (l *Logs) set(o nginx.Offer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counter.SetTable(o.Table)
	if o.Generation == "" {
		return
	}
	l.where = o.Logs
	l.requests.to(o.Logs.Requests)
	l.sessions.to(o.Logs.Sessions)
}

// read counts what has been added, up to a bound. more is true where that was reached.
func (l *Logs) read() (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.readLocked()
}

func (l *Logs) readLocked() bool {
	now := time.Now()
	one := l.requests.each(l.buf, func(f *traffic.Format, line []byte) bool { return l.counter.Request(f, line, now) })
	other := l.sessions.each(l.buf, func(f *traffic.Format, line []byte) bool { return l.counter.Session(f, line, now) })
	return one || other
}

// Report returns what has been counted, what was added last included.
func (l *Logs) Report() traffic.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readLocked()
	open := l.counter.Servers()
	// A connection that is open for a client takes no memory here. The kernel knows those of an nginx in the network
	// of this process.
	err := sockdiag.Each(func(s sockdiag.Socket) {
		if n, asked := open[s.Remote]; asked {
			open[s.Remote] = n + 1
		}
	})
	if err != nil {
		open = nil // not known
	}
	return l.counter.Report(l.where, l.unreadable(), open)
}

// unreadable says why the access log cannot be read.
func (l *Logs) unreadable() string {
	switch err := l.requests.err; {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%v; let the agent's user read it and enter its directory", err)
	default:
		return err.Error()
	}
}
