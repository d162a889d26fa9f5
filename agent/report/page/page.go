// Package page serves the status and the history as a page for people and as JSON. It changes nothing.
package page

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html" // that of Go keeps the linker from leaving out what is not called

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Past is what was recorded. A time in which nothing was is no error.
type Past interface {
	// Credits are the records between two times, in at most that many spans.
	Credits(from, to time.Time, most int) (report.Series, error)
	// Hosts are what hosts have served, all together in at most mostOfAll spans, each in at most most.
	Hosts(from, to time.Time, mostOfAll, most int) (report.Served, error)
	// Events are what happened, the oldest first, of one group or of all (""); of more than most the newest.
	Events(from, to time.Time, group string, most int) ([]report.Event, error)
}

// Options say what is shown, and under which names.
type Options struct {
	Status func() report.Status
	Past   Past
	// Listen is the address and port at which the page is served, and Host the name of its site; empty for none.
	Listen, Host string
}

// assets are the files of the page: its own, and uPlot (https://github.com/leeoniya/uPlot, MIT), which draws.
//
//go:embed assets page.html
var assets embed.FS

// texts are read when they are first shown: most programs of this name show none.
var texts = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(functions).ParseFS(assets, "page.html"))
})

const (
	mostPoints  = 1500 // spans of time that a plot is drawn of
	mostRows    = 60   // rows of a table, and spans of a host's small plot
	mostEvents  = 2000 // in an answer
	mostListed  = 60   // events on the page, of the time that is shown
	mostHolders = 20   // events of addresses on the page, of a year
)

// ranges are the times for which the page is shown, and unasked the one that is shown unasked.
var ranges = []struct{ Since, Name string }{{"1h", "hour"}, {unasked, "day"}, {"1w", "week"}, {"30d", "month"}, {"366d", "year"}}

const unasked = "1d"

// groups are those of events.
var groups = []string{"agent", "address", "nginx", "deploy", "certificate", "gate", "job"}

// page answers one request at a time, so that many readers take no more of the instance than one.
type page struct {
	Options
	turn chan struct{} // has one place, for who is answered
	// last is what hosts have served when that was last read, and listed the events, for a minute.
	last   hosted
	listed struct {
		span            time.Duration
		at              time.Time
		events, holders []report.Event
	}
}

// New returns what answers / and everything below it.
func New(o Options) http.Handler {
	p := &page{Options: o, turn: make(chan struct{}, 1)}
	m := http.NewServeMux()
	m.HandleFunc("/{$}", p.visited(p.html("page")))
	m.HandleFunc("/live", p.own(p.html("live")))
	m.HandleFunc("/api/v1/status", p.own(p.json(func(asked) (any, error) { return p.Status().View(), nil })))
	m.HandleFunc("/api/v1/history", p.own(p.json(func(a asked) (any, error) { return p.history(a.span, mostPoints) })))
	m.HandleFunc("/api/v1/hosts", p.own(p.json(func(a asked) (any, error) { return p.served(a.span) })))
	m.HandleFunc("/api/v1/events", p.own(p.json(func(a asked) (any, error) { return p.events(a.span, a.group, mostEvents) })))
	for _, name := range []string{"page.css", "page.js", "icon.svg", "uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"} {
		m.HandleFunc("/assets/"+name, asset(name))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "there is no such page; / is the status, /metrics is for Prometheus, and /api/v1/status is JSON")
	})
	return p.guarded(m)
}

// during is a time that ends now.
type during struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

func lately(span time.Duration) during {
	to := time.Now().UTC().Truncate(time.Second)
	return during{to.Add(-span), to}
}

// past is what was recorded in a time, hosted what hosts have served, and happened what happened.
type (
	past struct {
		during
		report.Series
	}
	hosted struct {
		during
		report.Served
	}
	happened struct {
		during
		Events []report.Event `json:"events"`
	}
)

func (p *page) history(span time.Duration, most int) (past, error) {
	t := lately(span)
	s, err := p.Past.Credits(t.From, t.To, most)
	return past{t, s}, err
}

// served reads what hosts have served, but not again before the columns of hosts have a new span, or ten minutes are over.
func (p *page) served(span time.Duration) (hosted, error) {
	t := lately(span)
	if p.last.Step > 0 && p.last.To.Sub(p.last.From) == span {
		if age := t.To.Sub(p.last.To); age >= 0 && age < min(time.Duration(p.last.Step)*time.Second, 10*time.Minute) {
			return p.last, nil
		}
	}
	s, err := p.Past.Hosts(t.From, t.To, mostPoints, mostRows)
	if err != nil {
		return hosted{}, err
	}
	p.last = hosted{t, s}
	return p.last, nil
}

func (p *page) events(span time.Duration, group string, most int) (happened, error) {
	t := lately(span)
	all, err := p.Past.Events(t.From, t.To, group, most)
	return happened{t, append([]report.Event{}, all...)}, err
}

// asked is what a request asks for with since=7d, without which it is a day, and group=job.
type asked struct {
	since string
	span  time.Duration
	group string
}

func read(r *http.Request) (a asked, err error) {
	q := r.URL.Query()
	a.since, a.group = cmp.Or(q.Get("since"), unasked), q.Get("group")
	if a.span, err = report.ParseSpan(a.since); err != nil {
		return a, fmt.Errorf("since: %w", err)
	}
	if a.group != "" && !slices.Contains(groups, a.group) {
		return a, fmt.Errorf("group: %.100q is none of %s", a.group, strings.Join(groups, ", "))
	}
	return a, nil
}

// answer returns the text that is made of what a request asks for.
func (p *page) answer(kind string, of func(asked) ([]byte, error)) http.HandlerFunc {
	alone := func(ctx context.Context, a asked) ([]byte, error) {
		select {
		case p.turn <- struct{}{}:
			defer func() { <-p.turn }()
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return nil, err // the client has gone
		}
		return of(a)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := read(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		text, err := alone(r.Context(), a)
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		write(w, r, kind, text)
	}
}

// json returns what a value is as JSON.
func (p *page) json(of func(asked) (any, error)) http.HandlerFunc {
	return p.answer("application/json", func(a asked) ([]byte, error) {
		v, err := of(a)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	})
}

// shown is what the templates show.
type shown struct {
	report.View
	Since  string
	Ranges any
	// Past is left out of what changes.
	Past   past
	Served hosted
	// Events are the newest first, of the time that is shown; Holders are those of the addresses, of a year.
	Events, Holders []report.Event
	// Missing says why there is less of the past than there should be.
	Missing string
}

// html returns the page, or the part of it that changes.
func (p *page) html(name string) http.HandlerFunc {
	return p.answer("text/html; charset=utf-8", func(a asked) ([]byte, error) {
		x := shown{View: p.Status().View(), Since: a.since, Ranges: ranges}
		if err := p.remember(&x, a.span, name == "page"); err != nil {
			x.Missing = err.Error()
		}
		var b bytes.Buffer
		err := texts().ExecuteTemplate(&b, name, x)
		return b.Bytes(), err
	})
}

// remember fills in what was, as far as it can be read.
func (p *page) remember(x *shown, span time.Duration, whole bool) error {
	var errs [4]error
	x.Served, errs[0] = p.served(span)
	if whole {
		x.Past, errs[1] = p.history(span, mostRows)
	}
	if now := time.Now(); p.listed.span != span || now.Sub(p.listed.at).Abs() > time.Minute {
		var events, holders happened
		events, errs[2] = p.events(span, "", mostListed)
		holders, errs[3] = p.events(366*24*time.Hour, "address", mostHolders)
		slices.Reverse(events.Events)
		slices.Reverse(holders.Events)
		p.listed.events, p.listed.holders, p.listed.span, p.listed.at = events.Events, holders.Events, span, now
		if errors.Join(errs[2:]...) != nil {
			p.listed.at = time.Time{} // it is said until it is over
		}
	}
	x.Events, x.Holders = p.listed.events, p.listed.holders
	return errors.Join(errs[:]...)
}
