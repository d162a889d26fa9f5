package plan

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// turns has the race detector know that a test and the planner run in turns, which
// virtual time alone does not.
type turns struct{ mu sync.Mutex }

func (x *turns) turn() {
	x.mu.Lock()
	defer x.mu.Unlock()
}

// fixture is a planner that runs, with its outputs so far.
type fixture struct {
	turns
	t *testing.T
	o Options

	snapshots *latest.Slot[tasks.Snapshot]
	identity  *latest.Slot[identity.Identity]
	certs     *latest.Slot[certs.Inventory]
	reach     *latest.Slot[route.Reach]
	build     *latest.Slot[nginx.Build]
	files     *latest.Slot[nginx.OperatorFiles]

	heard     bool      // all sources have been asked
	createdAt time.Time // when the container of served was made
	wanted    [][]route.Probe
	trees     []nginx.Wanted
	plans     []nginx.Offer
	problems  [][]problem.Problem
	alive     int
	// stop ends the planner.
	stop func()
}

// inBubble runs the test with a planner in virtual time.
func inBubble(t *testing.T, test func(d *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newFixture(t, route.Table{})
		d.start()
		test(d)
	})
}

func newFixture(t *testing.T, before route.Table) *fixture {
	return &fixture{
		t: t, heard: true, o: Options{Settings: nginx.Settings{Nginx: config.Nginx{HTTP2: true}}, Previous: before},
		snapshots: latest.New[tasks.Snapshot](), identity: latest.New[identity.Identity](), certs: latest.New[certs.Inventory](),
		reach: latest.New[route.Reach](), build: latest.New[nginx.Build](), files: latest.New[nginx.OperatorFiles](),
	}
}

func (d *fixture) start() {
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, d.o, Inputs{
			Snapshots: d.snapshots.C(), Identity: d.identity.C(), Certs: d.certs.C(), Reach: d.reach.C(), Build: d.build.C(), Files: d.files.C(),
		}, Outputs{
			Probes:   func(v []route.Probe) { d.turn(); d.wanted = append(d.wanted, v) },
			Wanted:   func(v nginx.Wanted) { d.turn(); d.trees = append(d.trees, v) },
			Offer:    func(v nginx.Offer) { d.turn(); d.plans = append(d.plans, v) },
			Problems: func(v []problem.Problem) { d.turn(); d.problems = append(d.problems, v) },
			Alive:    func() { d.turn(); d.alive++ },
		})
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(d.stop)
}

// list puts a list of Docker's, beside no other source of containers.
func (d *fixture) list(v tasks.Containers) {
	s := tasks.Merge(v, tasks.Agent{Heard: true}, tasks.Containers{Complete: true})
	s.Heard = d.heard
	d.snapshots.Put(s)
}

// after lets the given time pass.
func (d *fixture) after(pause time.Duration) {
	d.turn()
	time.Sleep(pause) // virtual: in a bubble
	synctest.Wait()
}

func (d *fixture) wantTrees(n int, when string) {
	d.t.Helper()
	if len(d.trees) != n {
		d.t.Fatalf("%s: %d trees, want %d", when, len(d.trees), n)
	}
}

// known puts every input but the containers and the results of the probes.
func (d *fixture) known() {
	d.identity.Put(identity.Identity{Host: identity.Host{LocalAddr: netip.MustParseAddr("10.0.0.5")}})
	d.after(0)
	d.certs.Put(certs.Inventory{Complete: true})
	d.after(0)
	d.build.Put(nginx.Build{Version: nginx.Version{Major: 1, Minor: 22, Patch: 1}})
	d.after(0)
	d.files.Put(nginx.OperatorFiles{Passwords: []string{}})
	d.after(0)
}

// listed is a list of Docker's: one container for each host, at its own address.
func listed(hosts ...string) tasks.Containers {
	out := tasks.Containers{At: time.Now(), Complete: true}
	for i, h := range hosts {
		out.List = append(out.List, tasks.Container{
			ID: strings.ReplaceAll(h, ".", "-"), Name: h, State: tasks.Running,
			Labels: map[string]string{"nagaya.host": h}, Network: tasks.Bridge,
			Addrs:     []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, byte(2 + i)})},
			CreatedAt: time.Now(), StartedAt: time.Now(),
		})
	}
	return out
}

// answers are the results of the newest probes, all with the same state.
func (d *fixture) answers(s route.ReachState) route.Reach {
	r := route.Reach{}
	for _, p := range d.wanted[len(d.wanted)-1] {
		r[p] = route.Reached{State: s}
	}
	return r
}

func hosts(t nginx.Tree) string {
	var all []string
	for _, s := range t.Sites {
		all = append(all, s.Host)
	}
	return strings.Join(all, " ")
}

func TestFirstTreeWaitsForTheProbes(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.known()
		d.list(listed("a.test"))
		d.after(time.Second)
		d.wantTrees(0, "before the container was probed")
		if len(d.wanted) == 0 || len(d.wanted[len(d.wanted)-1]) != 1 {
			d.t.Fatalf("wanted probes %v", d.wanted)
		}
		d.reach.Put(d.answers(route.Reachable))
		d.after(0)
		d.wantTrees(1, "after it answered")
		if got := hosts(d.trees[0].Tree); got != "a.test" {
			d.t.Errorf("the first tree serves %q", got)
		}
	})
}

func TestFirstTreeWaitsForTheECSAgent(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.known()
		d.heard = false
		d.list(listed())
		d.after(time.Second)
		d.wantTrees(0, "before the ECS agent was asked")
		d.heard = true
		d.list(listed())
		d.after(0)
		d.wantTrees(1, "after it answered")
	})
}

func TestFirstTreeWaitsThreeSecondsAtMost(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.known()
		d.list(listed("a.test"))
		d.after(firstHold - time.Millisecond)
		d.wantTrees(0, "just before the hold is over")
		d.after(time.Millisecond)
		d.wantTrees(1, "when the hold is over")
	})
}

func TestNoTreeWithoutEveryInput(t *testing.T) {
	for _, missing := range []string{"containers", "certificates", "nginx", "files"} {
		t.Run(missing, func(t *testing.T) {
			inBubble(t, func(d *fixture) {
				if missing != "containers" {
					d.list(listed())
				}
				d.after(0)
				if missing != "certificates" {
					d.certs.Put(certs.Inventory{Complete: true})
				}
				d.after(0)
				if missing != "nginx" {
					d.build.Put(nginx.Build{Version: nginx.MinVersion})
				}
				d.after(0)
				if missing != "files" {
					d.files.Put(nginx.OperatorFiles{Passwords: []string{}})
				}
				d.after(time.Hour)
				d.wantTrees(0, "for an hour")
			})
		})
	}
}

// served is a fixture whose first tree serves a.test.
func (d *fixture) served() {
	d.t.Helper()
	d.known()
	d.createdAt = time.Now()
	d.list(listed("a.test"))
	d.after(0)
	d.reach.Put(d.answers(route.Reachable))
	d.after(0)
	d.wantTrees(1, "at first")
}

// nextFlow is the fixture of the flow that comes after a change of the configuration.
func (d *fixture) nextFlow() *fixture {
	d.stop()
	next := newFixture(d.t, d.plans[len(d.plans)-1].Table)
	next.start()
	next.known()
	return next
}

func TestAListThatFailsChangesNothing(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		d.list(tasks.Containers{Problems: []problem.Problem{{Code: "docker-unreachable", Subject: "docker"}}})
		d.after(time.Hour)
		d.wantTrees(1, "while Docker does not answer")
		last := d.plans[len(d.plans)-1].Table
		if last.Complete || len(last.Sites) != 1 || len(last.Pools[last.Sites[0].PoolKey(last.Sites[0].Locations[0])].Servers) != 1 {
			d.t.Errorf("table %+v; want the site from before, and not complete", last)
		}
	})
}

func TestEqualTablesMakeNoNewTree(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		plans := len(d.plans)
		first := d.createdAt
		for range 20 {
			again := listed("a.test")
			again.List[0].CreatedAt, again.List[0].StartedAt = first, first
			d.list(again)
			d.reach.Put(d.answers(route.Reachable))
			d.after(time.Second)
		}
		d.wantTrees(1, "after twenty equal lists")
		if len(d.plans) != plans {
			d.t.Errorf("%d equal tables were output", len(d.plans)-plans)
		}
		d.list(listed("a.test", "b.test"))
		d.after(0)
		d.reach.Put(d.answers(route.Reachable))
		d.after(0)
		if got := hosts(d.trees[len(d.trees)-1].Tree); got != "a.test b.test" {
			d.t.Errorf("the last tree serves %q", got)
		}
	})
}

// The grace period ends by time alone, and the tree follows on the second.
func TestTimeAloneChangesTheTree(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		d.list(listed())
		d.after(0)
		d.wantTrees(2, "after the container went")
		d.after(10*time.Minute - time.Millisecond)
		d.wantTrees(2, "within the grace period")
		d.after(time.Second)
		d.wantTrees(3, "after the grace period")
		if got := hosts(d.trees[2].Tree); got != "" {
			d.t.Errorf("the last tree serves %q", got)
		}
	})
}

// A family keeps its host across a change of the configuration, which begins a
// new flow with a new planner.
func TestHostsKeepTheirFamilyAcrossFlows(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		next := d.nextFlow()
		later := listed("a.test", "b.test")
		later.List[1].Labels["nagaya.host"] = "a.test"
		later.List[1].CreatedAt = later.List[1].CreatedAt.Add(-time.Hour) // older, and the family without the host
		next.list(later)
		next.after(0)
		next.reach.Put(next.answers(route.Reachable))
		next.after(0)
		next.wantTrees(1, "in the next flow")
		if got := next.plans[len(next.plans)-1].Table.Sites[0].Family; got != "name:a.test" {
			d.t.Errorf("a.test is the host of %s now", got)
		}
	})
}

// An idle planner sleeps, whatever is unknown.
func TestIdlePlannerSleeps(t *testing.T) {
	for name, prepare := range map[string]func(d *fixture){
		"nothing known": func(*fixture) {},
		"served":        (*fixture).served,
		"Docker went while it was held": func(d *fixture) {
			d.known()
			d.list(listed("a.test"))
			d.after(0)
			d.list(tasks.Containers{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(d *fixture) {
				prepare(d)
				d.after(firstHold + time.Second)
				before := d.alive
				d.after(time.Hour)
				if n := d.alive - before; n > 1000 {
					d.t.Errorf("it woke %d times in an hour", n)
				}
			})
		})
	}
}

// Before the first results of the probes neither a tree nor a table is output in which routes
// have lost their containers.
func TestNothingIsVacantBeforeItWasProbed(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		next := d.nextFlow()
		next.list(listed("a.test"))
		next.after(time.Second)
		next.reach.Put(next.answers(route.Reachable))
		next.after(0)
		next.wantTrees(1, "after the probes")
		for i, plan := range next.plans {
			table := plan.Table
			if live := table.LiveHosts(); table.Complete && len(live) != 1 {
				d.t.Errorf("table %d of %d: live are %q", i+1, len(next.plans), live)
			}
		}
		if len(next.plans) == 0 {
			d.t.Error("no table was output")
		}
	})
}

func TestChangedOperatorFiles(t *testing.T) {
	inBubble(t, func(d *fixture) {
		d.served()
		d.files.Put(nginx.OperatorFiles{Snippets: []nginx.Snippet{{Name: "http.d/own.conf", Fingerprint: "1"}}, Passwords: []string{}})
		d.after(0)
		d.wantTrees(2, "with a snippet of the operator's")
		if !strings.Contains(d.trees[1].Tree.Main, "own.conf") {
			d.t.Errorf("the snippet is not in\n%s", d.trees[1].Tree.Main)
		}
	})
}

// An idle planner calls Alive, for the watchdog.
func TestAlive(t *testing.T) {
	inBubble(t, func(d *fixture) {
		for range 100 {
			before := d.alive
			d.after(aliveEvery)
			if d.alive == before {
				d.t.Fatal("the idle planner does not call Alive")
			}
		}
	})
}

// While a container is created and not started yet, More is true.
func TestWantedMore(t *testing.T) {
	inBubble(t, func(d *fixture) {
		last := func(when string, more bool) {
			d.t.Helper()
			if w := d.trees[len(d.trees)-1]; hosts(w.Tree) != "a.test" || w.More != more {
				d.t.Errorf("%s: %q is wanted, and more %v", when, hosts(w.Tree), w.More)
			}
		}
		d.served()
		both := listed("a.test", "b.test")
		both.List[1].State, both.List[1].StartedAt, both.List[1].Addrs = tasks.Created, time.Time{}, nil
		d.list(both)
		d.after(0)
		last("when it was made", true)
		d.after(time.Minute)
		last("while others may be started first", true)
		d.after(2 * time.Minute)
		last("when it never started", false)
	})
}

// What a container says is read when it is new or has changed, and not with each plan: a stranger's words may take long to read.
func TestWordsAreReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFixture(t, route.Table{})
		read := map[string]int{}
		d.o.Foreign = func(c tasks.Container, _ labels.Defaults) ([]route.Spec, []problem.Problem, bool) {
			d.turn()
			read[c.ID]++
			return nil, nil, false
		}
		d.start()
		d.known()
		list := tasks.Containers{Complete: true, List: []tasks.Container{{ID: "a", Name: "a", State: tasks.Running}, {ID: "b", Name: "b", State: tasks.Running}}}
		d.list(list)
		d.after(time.Hour)
		list.List = slices.Clone(list.List)
		list.List[1].Health = tasks.Healthy
		d.list(list)
		d.after(time.Minute)
		if len(d.plans) == 0 || read["a"] != 1 || read["b"] != 2 {
			t.Errorf("%d plans; read %v", len(d.plans), read)
		}
	})
}
