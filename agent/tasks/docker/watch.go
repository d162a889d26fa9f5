// Package docker says which containers the Docker Engine of this host has. It
// subscribes to the engine's events, and lists everything again whenever one
// of them names a container: an event only means "look again".
package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/dockerapi"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Options say which engine to watch. The zero value watches the local one.
type Options struct {
	// Host is the engine's address, e.g. "unix:///run/docker.sock" or
	// "tcp://10.0.0.5:2375". Empty means unix:///var/run/docker.sock.
	Host string
	// Filters are the words KEY=VALUE of Docker's own filters (docker ps --filter) that a
	// container must fit to be routed; the others lose what they say about routes. None
	// lets all be routed.
	Filters []string
	// Foreign tells which labels and variables are kept besides nagaya's own: the words of
	// another program that are understood. Nil means none.
	Foreign func(name string) bool
	// Log receives one line when the engine is lost or found again; nil discards.
	Log *slog.Logger
	// Resync is how often everything is listed without an event. Zero means 60 s.
	Resync time.Duration
	// Timeout is how long the engine may take for one answer. Zero means 30 s.
	Timeout time.Duration
}

const (
	// firstRetry is the pause after the first failure; it doubles up to retryMost.
	firstRetry = 100 * time.Millisecond
	// pingTimeout bounds the first call of a session, so that an engine whose
	// socket exists but which does not answer is reported soon.
	pingTimeout = 5 * time.Second
	// lookBack is how far back events are read at the start, so that a container
	// that was told to stop just before this program started is known as stopping.
	lookBack = 2 * time.Minute
	// listBurst lists may follow each other at once, and after that there is one every
	// listEvery, however many events come: each costs the engine and this program CPU
	// time. A deployment stays within the burst.
	listBurst = 10
	listEvery = 100 * time.Millisecond
)

// wantedEvents are the events that can change what is routed. The exec_* events,
// which every health check causes, are left to the engine to filter out.
var wantedEvents = []string{
	"create", "start", "restart", "stop", "die", "kill", "pause", "unpause", "oom",
	"destroy", "rename", "update", "health_status", "connect", "disconnect",
}

func (o Options) withDefaults() Options {
	o.Host = cmp.Or(o.Host, client.DefaultDockerHost)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Resync = cmp.Or(o.Resync, time.Minute)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if o.Foreign == nil {
		o.Foreign = func(string) bool { return false }
	}
	return o
}

// retryMost is the longest pause between two attempts to reach the engine. A unix socket costs nothing to try.
func (o Options) retryMost() time.Duration {
	if strings.HasPrefix(o.Host, "unix://") {
		return 500 * time.Millisecond
	}
	return 10 * time.Second
}

func filters(words []string) client.Filters {
	f := client.Filters{}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		f.Add(key, value)
	}
	return f
}

// Watch puts what the engine says, at once and whenever it changed, until ctx
// ends; then it returns nil. While the engine cannot be reached it puts the last
// list again, once, with the problem docker-unreachable, and keeps trying. It
// returns an error only when Options.Host cannot be an address at all.
func Watch(ctx context.Context, o Options, put func(tasks.Containers)) error {
	o = o.withDefaults()
	if _, err := client.ParseHostURL(o.Host); err != nil {
		return fmt.Errorf("docker host %q: %w (want unix:///path or tcp://address:port)", o.Host, err)
	}
	w := &watch{Options: o, put: put, notes: newNotes(), since: time.Now().Add(-lookBack)}
	pause := backoff.Backoff{First: firstRetry, Most: o.retryMost()}
	for {
		listed, err := w.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if listed {
			pause.Reset()
		}
		w.reportLost(err)
		if !backoff.Sleep(ctx, pause.Next()) {
			return nil
		}
	}
}

// watch is the state that outlives one connection to the engine.
type watch struct {
	Options
	put   func(tasks.Containers)
	last  tasks.Containers
	notes *notes
	pace  pace
	// since is where the next subscription to events begins.
	since time.Time
	// cause is the trouble that was reported last; empty while all is well.
	cause string
}

// session talks to the engine over one connection until something fails.
// listed is true once the containers were listed.
func (w *watch) session(ctx context.Context) (listed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cli, err := w.connect(ctx)
	if err != nil {
		return false, err
	}
	defer cli.Close()

	begin := time.Now()
	failed, err := w.subscribe(ctx, cancel, cli)
	if err != nil {
		return false, err
	}
	// Whatever the gap was, the containers may have changed behind it.
	l := &lister{cli: cli, timeout: w.Timeout, filters: filters(w.Filters), foreign: w.Foreign, known: map[string]known{}, notes: w.notes}
	resync := time.NewTicker(w.Resync)
	defer resync.Stop()
	for {
		changed, killed := w.notes.take()
		if killed && listed {
			w.putList(l.listed(time.Now())) // before the list, which takes the longer the more there are
		}
		got, err := l.list(ctx, changed)
		if err != nil {
			return listed, err
		}
		w.putList(got)
		listed = true
		select {
		case <-w.notes.added:
			if !backoff.Sleep(ctx, w.pace.wait(time.Now())) {
				return true, ctx.Err()
			}
			select {
			case <-w.notes.added: // what it tells of is in the next list too
			default:
			}
		case <-resync.C:
		case err := <-failed:
			// Events that were lost with the stream are asked for again.
			w.since = later(begin, w.notes.newestAt())
			return true, fmt.Errorf("reading events: %w", err)
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// pace spreads the lists. It is the time at which nothing is owed for lists any more.
type pace time.Time

// wait counts one list and returns how long it has to wait, listEvery at most.
func (p *pace) wait(now time.Time) time.Duration {
	owed := min(later(time.Time(*p), now).Sub(now), listBurst*listEvery) + listEvery
	*p = pace(now.Add(owed))
	return max(0, owed-listBurst*listEvery)
}

func later(a, b time.Time) time.Time {
	return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare)
}

// connect makes a client of its own for every session: the engine that comes
// back may be another version than the one that went.
func (w *watch) connect(ctx context.Context) (*client.Client, error) {
	cli, err := dockerapi.New(w.Host)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", w.Host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if _, err := cli.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		cli.Close()
		return nil, fmt.Errorf("asking for the version: %w", err)
	}
	return cli, nil
}

// subscribe returns when the engine has accepted the subscription, so that what
// is listed afterwards cannot miss an event. The channel tells when it ends.
func (w *watch) subscribe(ctx context.Context, cancel func(), cli *client.Client) (<-chan error, error) {
	late := time.AfterFunc(w.Timeout, cancel)
	stream := cli.Events(ctx, client.EventsListOptions{
		// The engine answers before it registers the subscriber; a start in the
		// past closes that gap too.
		Since: strconv.FormatInt(w.since.Unix(), 10),
		Filters: client.Filters{}.
			Add("type", string(events.ContainerEventType), string(events.NetworkEventType)).
			Add("event", wantedEvents...),
	})
	if !late.Stop() {
		return nil, fmt.Errorf("subscribing to events: no answer in %s", w.Timeout)
	}
	failed := make(chan error, 1)
	go func() {
		for {
			select {
			case m := <-stream.Messages:
				w.notes.add(m)
			case err := <-stream.Err:
				if err == nil || errors.Is(err, io.EOF) {
					err = errors.New("the engine closed the stream")
				}
				failed <- err
				return
			}
		}
	}()
	return failed, nil
}

func (w *watch) putList(c tasks.Containers) {
	if w.cause != "" || !w.last.Complete {
		w.Log.Info("docker engine answers", event.Key, event.DockerAnswers, "engine", w.Host, "containers", len(c.List))
	}
	w.cause = ""
	w.last = c
	w.put(c)
}

func (w *watch) reportLost(err error) {
	cause := bounded(err.Error())
	if cause == w.cause {
		return
	}
	w.cause = cause
	w.Log.Warn("docker engine does not answer; keeping the last list", event.Key, event.DockerSilent,
		"engine", w.Host, "err", cause, "containers", len(w.last.List), "complete", w.last.Complete)
	silent := w.last
	silent.Problems = append(slices.Clone(w.last.Problems), problem.Of("docker", "docker-unreachable", remedy(err),
		"the Docker Engine at %q cannot be read (%q); routes stay as they were and do not follow changes", w.Host, cause))
	w.put(silent)
}

func remedy(err error) string {
	switch text := err.Error(); {
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EACCES):
		return "let the agent's user read the socket: run it as root or add the user to the group docker"
	case strings.Contains(text, "minimum supported API version"):
		return "upgrade Docker to 19.03 or newer"
	case errors.Is(err, os.ErrNotExist), strings.Contains(text, "no such file"):
		return "start Docker (systemctl start docker), or name its socket in docker.host; a container needs it mounted: -v /var/run/docker.sock:/var/run/docker.sock:ro"
	}
	return "start Docker (systemctl start docker), or name its socket in docker.host"
}

// bounded makes a text that came from elsewhere fit to be shown.
func bounded(s string) string { return problem.Printable(s, 200) }
