package docker

import (
	"cmp"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"
)

// notes are what events have said that a list does not say: which containers to
// inspect again, and which signals they were sent. One goroutine adds, another one reads.
type notes struct {
	// added has a value in it when something was added.
	added chan struct{}

	mu      sync.Mutex
	changed map[string]bool
	killed  bool                         // a container was sent a signal
	kills   map[string]map[int]time.Time // container id → signal → when last
	newest  time.Time                    // of the events
}

func newNotes() *notes {
	return &notes{added: make(chan struct{}, 1), changed: map[string]bool{}, kills: map[string]map[int]time.Time{}}
}

// maxNoted bounds what is remembered between two lists; beyond it everything is
// inspected again, which is always right.
const maxNoted = 4096

// everything is the id that stands for all containers.
const everything = ""

func (n *notes) add(m events.Message) {
	id := m.Actor.ID
	if m.Type == events.NetworkEventType {
		id = m.Actor.Attributes["container"]
	}
	at := time.Unix(0, m.TimeNano)
	n.mu.Lock()
	n.newest = later(n.newest, at)
	switch {
	case m.Action == events.ActionKill:
		// All that changes by it is noted here, and an inspection would wait for the
		// container's end where it is removed by force.
		n.addKill(id, m.Actor.Attributes["signal"], at)
	case len(n.changed) < maxNoted:
		n.changed[id] = true
	default:
		n.changed[everything] = true
	}
	n.mu.Unlock()
	select {
	case n.added <- struct{}{}:
	default:
	}
}

func (n *notes) addKill(id, signal string, at time.Time) {
	n.killed = true
	number := signalNumber(signal)
	if number == 0 || n.kills[id] == nil && len(n.kills) == maxNoted {
		return
	}
	if n.kills[id] == nil {
		n.kills[id] = map[int]time.Time{}
	}
	n.kills[id][number] = at
}

// take returns the containers that were named since the last call, and whether one was sent
// a signal. The map is the caller's: later events go into another one.
func (n *notes) take() (changed map[string]bool, killed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed, killed = n.changed, n.killed
	n.changed, n.killed = map[string]bool{}, false
	return changed, killed
}

// newestAt is when the newest event was.
func (n *notes) newestAt() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newest
}

// isStopping reports whether the container was sent its stop signal, or SIGKILL, after that.
func (n *notes) isStopping(id string, stopSignal int, after time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	kills := n.kills[id]
	return kills[stopSignal].After(after) || kills[int(unix.SIGKILL)].After(after)
}

// keep drops the notes about containers that exist no more.
func (n *notes) keep(exists func(id string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.kills, func(id string, _ map[int]time.Time) bool { return !exists(id) })
}

// Real-time signals as Docker counts them (moby/sys/signal: RTMIN is 34, RTMAX 64).
const (
	rtMin = 34
	rtMax = 64
)

// signalNumber reads a signal as Docker writes it: a number, or a name with or
// without SIG, RTMIN+n and RTMAX-n included. It returns 0 for anything else.
func signalNumber(s string) int {
	s = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "SIG")
	from, offset := 0, s
	for name, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		if rest, ok := strings.CutPrefix(s, name); ok {
			from, offset = base, cmp.Or(rest, "0")
		}
	}
	n, err := strconv.Atoi(offset) // "+3" and "-14" are numbers to Atoi
	switch n += from; {
	case err != nil:
		return int(unix.SignalNum("SIG" + s))
	case n < 1 || n > rtMax || from > 0 && n < rtMin:
		return 0
	}
	return n
}
