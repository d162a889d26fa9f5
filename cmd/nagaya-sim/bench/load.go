package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"
)

// visitor asks like a browser: one that keeps connections repeats a GET whose
// connection turned out to be dead before anything was answered.
type visitor struct {
	c *http.Client
	// fresh makes a new connection for every request.
	fresh bool
}

// answer is what came of one request.
type answer struct {
	at       time.Time // when it was sent
	status   int       // 0 when nothing came
	by       string    // the household that answered; empty for nginx
	listened time.Time // when that began to listen; zero for nginx
	err      error
	took     time.Duration
	repeated bool // the client had to send it again on another connection
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("status %d", a.status)
}

func (v visitor) ask(ctx context.Context, url string) (a answer) {
	defer func() { a.took = time.Since(a.at) }()
	conns := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { conns++ }})
	a.at = time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		a.err = err
		return a
	}
	req.Close = v.fresh
	resp, err := v.c.Do(req)
	a.repeated = conns > 1
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	_, a.err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if a.err == nil {
		a.status = resp.StatusCode
	}
	a.by = resp.Header.Get("X-Household")
	if ns, err := strconv.ParseInt(resp.Header.Get("X-Household-Since"), 10, 64); err == nil {
		a.listened = time.Unix(0, ns)
	}
	return a
}

// load is a stream of requests at a fixed rate, each at its own time whether or
// not the one before was answered.
type load struct {
	end  context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	requests int
	repeated int
	slowest  time.Duration // of those that were answered
	by       map[string]int
	bad      []answer // those that were not 200, the first thousands
}

const maxBad = 10_000

func startLoad(ctx context.Context, v visitor, url string, perSecond int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{end: cancel, done: make(chan struct{}), by: map[string]int{}}
	go func() {
		defer close(l.done)
		var under sync.WaitGroup
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for ctx.Err() == nil {
			// A request is finished even if the load is ended meanwhile.
			under.Go(func() { l.note(v.ask(context.WithoutCancel(ctx), url)) })
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		under.Wait()
		v.c.CloseIdleConnections()
	}()
	return l
}

func (l *load) note(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.by[a.by]++
	if a.repeated {
		l.repeated++
	}
	if a.status != 0 {
		l.slowest = max(l.slowest, a.took)
	}
	if a.status != http.StatusOK && len(l.bad) < maxBad {
		l.bad = append(l.bad, a)
	}
}

// seen returns how many answers a household has given so far.
func (l *load) seen(household string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[household]
}

// stop ends the load; its counts may be read then.
func (l *load) stop() {
	l.end()
	<-l.done
}

// first tells of the first failure, if there is one.
func (l *load) first() string {
	if len(l.bad) == 0 {
		return ""
	}
	return ", the first: " + l.bad[0].String()
}
