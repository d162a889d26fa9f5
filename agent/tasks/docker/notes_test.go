package docker

import (
	"testing"

	"github.com/moby/moby/api/types/events"
)

// An event that comes while a list is made belongs to the next one: what was taken for
// this list is the lister's alone, and it reads it without a lock.
func TestWhatIsNotedDuringAListIsForTheNext(t *testing.T) {
	s := newNotes()
	for _, id := range []string{"a", "b"} {
		taken, _ := s.take()
		s.add(events.Message{Type: events.ContainerEventType, Action: events.ActionDie, Actor: events.Actor{ID: id}})
		if len(taken) != 0 {
			t.Errorf("an event for %s changed what had been taken before it: %v", id, taken)
		}
		if taken, _ = s.take(); len(taken) != 1 || !taken[id] {
			t.Errorf("taken after the event for %s: %v", id, taken)
		}
	}
}
