package docker

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"
)

// signs is what events have said that a list does not say: which containers to
// look at again, and which signals they were sent. One goroutine notes, another
// one reads.
type signs struct {
	// wake has a value in it when something was noted.
	wake chan struct{}

	mu     sync.Mutex
	dirty  map[string]bool
	killed bool                         // a container was sent a signal
	kills  map[string]map[int]time.Time // container id → signal → when last
	latest time.Time
}

func newSigns() *signs {
	return &signs{wake: make(chan struct{}, 1), dirty: map[string]bool{}, kills: map[string]map[int]time.Time{}}
}

// maxNoted bounds what is remembered between two lists; beyond it everything is
// looked at again, which is always right.
const maxNoted = 4096

func (s *signs) note(m events.Message) {
	id := m.Actor.ID
	if m.Type == events.NetworkEventType {
		id = m.Actor.Attributes["container"]
	}
	at := time.Unix(0, m.TimeNano)
	s.mu.Lock()
	if at.After(s.latest) {
		s.latest = at
	}
	switch {
	case m.Action == events.ActionKill:
		// All that changes by it is noted here, and an inspection would wait for the
		// container's end where it is removed by force.
		s.noteKill(id, m.Actor.Attributes["signal"], at)
		s.killed = true
	case len(s.dirty) < maxNoted:
		s.dirty[id] = true
	default:
		s.dirty[everything] = true
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *signs) noteKill(id, signal string, at time.Time) {
	n := signalNumber(signal)
	if n == 0 {
		return
	}
	if s.kills[id] == nil {
		if len(s.kills) == maxNoted {
			return
		}
		s.kills[id] = map[int]time.Time{}
	}
	s.kills[id][n] = at
}

// everything is the id that stands for all containers.
const everything = ""

// takeKilled reports whether a container was sent a signal since the last call.
func (s *signs) takeKilled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	killed := s.killed
	s.killed = false
	return killed
}

// takeDirty returns the containers that were named since the last call. The map is the
// caller's: later events go into another one.
func (s *signs) takeDirty() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dirty
	s.dirty = map[string]bool{}
	return d
}

func (s *signs) newest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// stopping reports whether the container was sent its stop signal, or SIGKILL,
// after it was started.
func (s *signs) stopping(id string, stopSignal int, startedAt time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for signal, at := range s.kills[id] {
		if (signal == stopSignal || signal == int(unix.SIGKILL)) && at.After(startedAt) {
			return true
		}
	}
	return false
}

// forget drops what was noted about containers that exist no more.
func (s *signs) forget(exists func(id string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.kills {
		if !exists(id) {
			delete(s.kills, id)
		}
	}
}

// Real-time signals as Docker counts them (moby/sys/signal: RTMIN is 34, RTMAX 64).
const (
	rtMin = 34
	rtMax = 64
)

// signalNumber reads a signal as Docker writes it: a number, or a name with or
// without SIG, RTMIN+n and RTMAX-n included. It returns 0 for anything else.
func signalNumber(s string) int {
	s = strings.ToUpper(strings.TrimSpace(s))
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax {
			return 0
		}
		return n
	}
	s = strings.TrimPrefix(s, "SIG")
	for name, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(s, name)
		if !ok {
			continue
		}
		if rest == "" {
			return base
		}
		n, err := strconv.Atoi(rest) // "+3" and "-14" are numbers to Atoi
		if err != nil || base+n < rtMin || base+n > rtMax {
			return 0
		}
		return base + n
	}
	return int(unix.SignalNum("SIG" + s))
}
