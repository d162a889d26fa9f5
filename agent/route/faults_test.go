package route_test

import (
	"testing"
	"time"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Whatever the clock is set to, what runs is served, and what has gone is answered for
// by the new time's measure: never for the length of the jump.
func TestFaultClockJump(t *testing.T) {
	living := web("living", of("living"), labels("nagaya.host", "living.test", "nagaya.x.listen", "tcp:2222"))
	leaving := web("leaving", of("leaving"), hostPort(32769), labels("nagaya.host", "leaving.test", "nagaya.x.listen", "tcp:2223"))
	with := func(prev Table, now time.Time, cs ...tasks.Container) Table {
		in := input(cs...)
		in.Prev, in.Now, in.Options.Stream = prev, now, true
		return build(in)
	}
	has := func(table Table) (living, leaving bool) {
		for _, s := range table.Sites {
			living = living || s.Host == "living.test" && len(table.Pools[s.PoolKey(s.Locations[0])].Servers) == 1
			leaving = leaving || s.Host == "leaving.test"
		}
		for _, s := range table.Streams {
			living = living && (s.Listen.Port != 2222 || len(table.Pools[s.PoolKey()].Servers) == 1)
			leaving = leaving || s.Listen.Port == 2223
		}
		return living, leaving
	}
	both := with(Table{}, noon, living, leaving)
	one := with(both, noon, living)
	if live, left := has(one); !live || !left {
		t.Fatalf("before the jump: %s", lines(one))
	}
	for _, jump := range []time.Duration{-100 * 24 * time.Hour, -time.Second, 0, time.Minute, 100 * 24 * time.Hour} {
		now := noon.Add(jump)
		after := with(one, now, living)
		live, left := has(after)
		if want := jump < 10*time.Minute; !live || left != want {
			t.Errorf("a jump of %s: what runs is served: %t; what left is answered for: %t, want %t", jump, live, left, want)
		}
		if !after.Next.IsZero() && (after.Next.Before(now) || after.Next.After(now.Add(10*time.Minute))) {
			t.Errorf("a jump of %s: the next look is at %s", jump, after.Next)
		}
		if live, left := has(with(after, now.Add(10*time.Minute), living)); !live || left {
			t.Errorf("ten minutes after a jump of %s: what runs is served: %t; what left is answered for: %t", jump, live, left)
		}
		// Whoever comes back is served at once.
		if table := with(after, now, living, leaving); len(table.Sites) != 2 || !table.VacantSince(table.Sites[0]).IsZero() {
			t.Errorf("after a jump of %s and a return:\n%s", jump, lines(table))
		}
	}
}
