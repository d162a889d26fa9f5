// Package operator keeps what the operator said about this instance: whether it leaves,
// and which addresses it released. It is kept in the run directory: a restart of the agent
// changes none of it, a reboot of the host forgets it.
package operator

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// FileName is the name of the state file. It is the one that earlier versions wrote, so that
// an upgrade loses nothing.
const FileName = "wishes.json"

// State is what the operator said. The methods may be called from any goroutine.
type State struct {
	file  string
	mu    sync.Mutex
	saved saved
}

// saved is what the file holds.
type saved struct {
	// Leaving is true after 'nagaya leave'.
	Leaving bool           `json:"leaving,omitempty"`
	Claims  address.Memory `json:"claims"`
}

// Open reads the file. After an error the State is as if there were no file.
func Open(file string) (*State, error) {
	s := &State{file: file}
	err := atomicfile.ReadJSON(file, &s.saved)
	if err != nil {
		s.saved = saved{}
	}
	return s, err
}

// Claims is what was saved of the claims.
func (s *State) Claims() address.Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.Claims
}

// SaveClaims writes what a restart must not forget of the claims. It is false if that is
// in the file already.
func (s *State) SaveClaims(m address.Memory) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(s.saved.Claims, m) {
		return false, nil
	}
	next := s.saved
	next.Claims = m
	err := atomicfile.WriteJSON(s.file, next)
	if err == nil {
		s.saved = next
	}
	return true, err
}

// leaving reports whether the operator said that the instance leaves.
func (s *State) leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.Leaving
}

func (s *State) setLeaving(yes bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved.Leaving = yes
	if err := atomicfile.WriteJSON(s.file, s.saved); err != nil {
		return fmt.Errorf("it holds until the agent ends, and could not be kept: %w", err)
	}
	return nil
}

// Run puts every identity that was discovered with the operator's notice among the
// notices of EC2, if the operator said that the instance leaves, until ctx ends. leaves are
// the operator's words that it leaves, or stays after all.
func (s *State) Run(ctx context.Context, discovered <-chan identity.Identity, leaves <-chan latest.Question[bool], put func(identity.Identity)) error {
	var id identity.Identity
	known := false
	for {
		var l latest.Question[bool]
		var err error
		select {
		case <-ctx.Done():
			return nil
		case id = <-discovered:
			known = true
		case l = <-leaves:
			err = s.setLeaving(l.Value)
		}
		if known {
			put(id.WithOperator(s.leaving()))
		}
		if l.Reply != nil {
			l.Reply <- err
		}
	}
}
