// Package page serves the status and the history as a page for people and as JSON. It changes nothing.
package page

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Past is what was recorded. A time in which nothing was is no error.
type Past interface {
	// Credits are the records between two times, in at most that many spans.
	Credits(from, to time.Time, most int) (report.Series, error)
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

var texts = template.Must(template.New("").Funcs(functions).ParseFS(assets, "page.html"))

// mostPoints is how many spans of time a plot is drawn of, and mostRows how many a table has.
const (
	mostPoints = 1500
	mostRows   = 60
)

// ranges are the times for which the page is shown; the first is the one that is shown unasked.
var ranges = []struct{ Since, Name string }{{"1d", "day"}, {"1h", "hour"}, {"1w", "week"}, {"30d", "month"}, {"366d", "year"}}

// page answers one request at a time, so that many readers take no more of the instance than one.
type page struct {
	Options
	mu sync.Mutex
}

// New returns what answers / and everything below it.
func New(o Options) http.Handler {
	p := &page{Options: o}
	m := http.NewServeMux()
	m.HandleFunc("/{$}", p.show("page"))
	m.HandleFunc("/live", p.own(p.show("live")))
	m.HandleFunc("/api/v1/status", p.own(p.answer(func(time.Duration) (any, error) { return p.Status().View(), nil })))
	m.HandleFunc("/api/v1/history", p.own(p.answer(func(span time.Duration) (any, error) { return p.history(span, mostPoints) })))
	for _, name := range []string{"page.css", "page.js", "icon.svg", "uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"} {
		m.HandleFunc("/assets/"+name, asset(name))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "there is no such page; / is the status, /metrics is for Prometheus, and /api/v1/status is JSON")
	})
	return p.guarded(m)
}

// past is what was recorded in the time until now.
type past struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	report.Series
}

func (p *page) history(span time.Duration, most int) (past, error) {
	to := time.Now().UTC().Truncate(time.Second)
	s, err := p.Past.Credits(to.Add(-span), to, most)
	return past{to.Add(-span), to, s}, err
}

// span is the time that a request asks for with since=7d; without it it is a day.
func span(r *http.Request) (time.Duration, error) {
	d, err := report.ParseSpan(cmp.Or(r.URL.Query().Get("since"), ranges[0].Since))
	if err != nil {
		return 0, fmt.Errorf("since: %w", err)
	}
	return d, nil
}

// answer returns what a value is as JSON.
func (p *page) answer(of func(time.Duration) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		since, err := span(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		p.mu.Lock()
		v, err := of(since)
		var text []byte
		if err == nil {
			text, err = json.Marshal(v)
		}
		p.mu.Unlock()
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		write(w, r, "application/json", text)
	}
}

// shown is what the templates show.
type shown struct {
	report.View
	Since  string
	Ranges any
	Past   past
	// Missing says why Past is empty, if it should not be.
	Missing string
}

// show returns the page, or the part of it that changes.
func (p *page) show(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		since, err := span(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		p.mu.Lock()
		x := shown{View: p.Status().View(), Since: cmp.Or(r.URL.Query().Get("since"), ranges[0].Since), Ranges: ranges}
		if name == "page" {
			if x.Past, err = p.history(since, mostRows); err != nil {
				x.Missing = err.Error()
			}
		}
		var b bytes.Buffer
		err = texts.ExecuteTemplate(&b, name, x)
		p.mu.Unlock()
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		write(w, r, "text/html; charset=utf-8", b.Bytes())
	}
}
