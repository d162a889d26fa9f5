package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// wishes are what the operator said of this instance, and what a claim must not
// forget. They are kept in the run directory: a restart of the agent changes none
// of it, a reboot of the host forgets all.
type wishes struct {
	mu   sync.Mutex
	file string
	said said
}

// said is the kept file.
type said struct {
	// Leaving is true after 'nagaya leave'.
	Leaving bool         `json:"leaving,omitempty"`
	Claims  claim.Memory `json:"claims"`
}

// openWishes recalls what was said. With a file that cannot be read nothing was.
func openWishes(c config.Config) (*wishes, error) {
	w := &wishes{file: filepath.Join(c.RunDir, "wishes.json")}
	err := atomicfile.ReadJSON(w.file, &w.said)
	if err != nil {
		w.said = said{}
	}
	return w, err
}

func (w *wishes) memory() claim.Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Claims
}

func (w *wishes) remember(m claim.Memory) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Claims = m
	return atomicfile.WriteJSON(w.file, w.said)
}

func (w *wishes) leaving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Leaving
}

func (w *wishes) leave(yes bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Leaving = yes
	if err := atomicfile.WriteJSON(w.file, w.said); err != nil {
		return fmt.Errorf("it holds until the agent ends, and could not be kept: %w", err)
	}
	return nil
}

// self is the identity that was discovered, with the operator's word added to the
// notices of EC2: whoever follows the one follows the other.
type self struct {
	wishes *wishes
	put    func(identity.Identity)

	mu   sync.Mutex
	last identity.Identity
	seen bool
}

// saw takes what was discovered.
func (s *self) saw(id identity.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.seen = id, true
	s.tell()
}

// leave takes the operator's word that the instance goes away, or stays.
func (s *self) leave(yes bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.wishes.leave(yes)
	if s.seen {
		s.tell()
	}
	return err
}

func (s *self) tell() {
	id := s.last
	if s.wishes.leaving() {
		id.Notices = append(slices.Clone(id.Notices), identity.Notice{Kind: identity.Operator, Text: "nagaya leave"})
	}
	s.put(id)
}
