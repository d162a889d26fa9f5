package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/install"
)

// newTestAgent is an agent that lives in a directory of the test and of which no
// flow runs.
func newTestAgent(t *testing.T) (*agent, config.Config) {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.StateDir, c.RunDir, c.LogDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "log")
	c.Nginx.SnippetDir, c.Nginx.HtpasswdDir = filepath.Join(dir, "nginx"), filepath.Join(dir, "htpasswd")
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{Config: load.Sources{File: filepath.Join(dir, "nagaya.yaml")}, Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar)}
	return &agent{o: o, board: newBoard("test", time.Now()), restart: func() {}}, c
}

// turns tells the race detector that a test and what it tests take turns, which
// virtual time alone does not.
type turns struct{ mu sync.Mutex }

func (x *turns) turn() {
	x.mu.Lock()
	defer x.mu.Unlock()
}

// desk is a planner that runs, with what it has given away so far.
type desk struct {
	turns
	t      *testing.T
	p      *planner
	a      *agent
	wanted [][]route.Probe
	trees  []nginx.Tree
	// docker and static put the lists of these sources.
	docker, static func(tasks.Containers)
	// stop ends the planner.
	stop     func()
	outlooks []install.Outlook
	tables   []route.Table
	counts   []report.Tasks
	batches  [][]string
	beats    int
}

func newDesk(t *testing.T, a *agent, c config.Config) *desk {
	d := &desk{t: t, a: a, p: newPlanner(a, c)}
	puts := joinLists(2, d.p.lists.Put)
	d.docker, d.static = puts[0], puts[1]
	return d
}

// inBubble runs the test with a planner in virtual time.
func planInBubble(t *testing.T, change func(*config.Config), test func(d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		change(&c)
		d := newDesk(t, a, c)
		d.static(tasks.Containers{Complete: true})
		d.start()
		test(d)
	})
}

func (d *desk) start() {
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	beat := d.p.beat
	d.p.beat = func() { d.turn(); d.beats++; beat() }
	d.p.outlook = func(v install.Outlook) { d.turn(); d.outlooks = append(d.outlooks, v) }
	go func() {
		ended <- d.p.run(ctx,
			func(v []route.Probe) { d.turn(); d.wanted = append(d.wanted, v) },
			func(v nginx.Tree) { d.turn(); d.trees = append(d.trees, v) },
			func(v route.Table) { d.turn(); d.tables = append(d.tables, v) },
			func(v report.Tasks) { d.turn(); d.counts = append(d.counts, v) },
			func(v []string) { d.turn(); d.batches = append(d.batches, v) })
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(d.stop)
}

// after lets the given time pass.
func (d *desk) after(pause time.Duration) {
	d.turn()
	time.Sleep(pause) // virtual: in a bubble
	synctest.Wait()
}

func (d *desk) wantTrees(n int, when string) {
	d.t.Helper()
	if len(d.trees) != n {
		d.t.Fatalf("%s: %d trees, want %d", when, len(d.trees), n)
	}
}

// known puts everything but the containers and what the probes say.
func (d *desk) known() {
	d.p.identity.Put(identity.Identity{Host: identity.Host{LocalAddr: netip.MustParseAddr("10.0.0.5")}})
	d.after(0)
	d.p.certs.Put(certs.Inventory{Complete: true})
	d.after(0)
	d.p.build.Put(nginx.Build{Version: nginx.Version{Major: 1, Minor: 22, Patch: 1}, TLS: true, RealIP: true, StubStatus: true})
	d.after(0)
}

// listed is what Docker says: one container of each host, on its own address.
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

// answers are the probes that were wanted last, all with the same state.
func (d *desk) answers(s route.ReachState) route.Reach {
	r := route.Reach{}
	for _, p := range d.wanted[len(d.wanted)-1] {
		r[p] = route.Reached{State: s, Since: time.Now()}
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

func noECS(c *config.Config) { c.ECS.AgentURL = "" }

func TestFirstTreeWaitsForTheProbes(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.known()
		d.docker(listed("a.test"))
		d.after(time.Second)
		d.wantTrees(0, "before the container was probed")
		if len(d.wanted) == 0 || len(d.wanted[len(d.wanted)-1]) != 1 {
			d.t.Fatalf("wanted probes %v", d.wanted)
		}
		d.p.reach.Put(d.answers(route.Reachable))
		d.after(0)
		d.wantTrees(1, "after it answered")
		if got := hosts(d.trees[0]); got != "a.test" {
			d.t.Errorf("the first tree serves %q", got)
		}
	})
}

func TestFirstTreeWaitsForTheECSAgent(t *testing.T) {
	planInBubble(t, func(*config.Config) {}, func(d *desk) {
		d.known()
		d.docker(listed())
		d.after(time.Second)
		d.wantTrees(0, "before the ECS agent has spoken")
		d.p.agent.Put(tasks.Agent{})
		d.after(0)
		d.wantTrees(1, "after it said that it has nothing to say")
	})
}

func TestFirstTreeWaitsThreeSecondsAtMost(t *testing.T) {
	planInBubble(t, func(*config.Config) {}, func(d *desk) {
		d.known()
		d.docker(listed("a.test"))
		d.after(firstHold - time.Millisecond)
		d.wantTrees(0, "just before the hold is over")
		d.after(time.Millisecond)
		d.wantTrees(1, "when the hold is over")
	})
}

func TestNothingIsToldWithoutEverything(t *testing.T) {
	for _, missing := range []string{"containers", "certificates", "nginx"} {
		t.Run(missing, func(t *testing.T) {
			planInBubble(t, noECS, func(d *desk) {
				if missing != "containers" {
					d.docker(listed())
				}
				d.after(0)
				if missing != "certificates" {
					d.p.certs.Put(certs.Inventory{Complete: true})
				}
				d.after(0)
				if missing != "nginx" {
					d.p.build.Put(nginx.Build{Version: nginx.MinVersion, TLS: true})
				}
				d.after(time.Hour)
				d.wantTrees(0, "for an hour")
			})
		})
	}
}

// served is a desk whose first tree serves a.test.
func (d *desk) served() {
	d.t.Helper()
	d.known()
	d.docker(listed("a.test"))
	d.after(0)
	d.p.reach.Put(d.answers(route.Reachable))
	d.after(0)
	d.wantTrees(1, "at first")
}

// nextFlow is the desk of the flow that comes after a change of the configuration.
func (d *desk) nextFlow() *desk {
	d.stop()
	c := config.Default()
	noECS(&c)
	next := newDesk(d.t, d.a, c)
	next.static(tasks.Containers{Complete: true})
	next.start()
	next.known()
	return next
}

func TestAListThatFailsChangesNothing(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		d.docker(tasks.Containers{Problems: []problem.Problem{{Code: "docker-unreachable", Subject: "docker"}}})
		d.after(time.Hour)
		d.wantTrees(1, "while Docker does not answer")
		last := d.tables[len(d.tables)-1]
		if last.Complete || len(last.Sites) != 1 || len(last.Pools[last.Sites[0].PoolKey(last.Sites[0].Locations[0])].Servers) != 1 {
			d.t.Errorf("table %+v; want the site from before, and not complete", last)
		}
		if c := d.counts[len(d.counts)-1]; c.Complete || len(c.Problems) != 1 {
			d.t.Errorf("tasks %+v", c)
		}
	})
}

func TestEqualTablesMakeNoNewTree(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		tables := len(d.tables)
		for range 20 {
			again := listed("a.test")
			again.List[0].CreatedAt, again.List[0].StartedAt = d.p.listed[0].List[0].CreatedAt, d.p.listed[0].List[0].StartedAt
			d.docker(again)
			d.p.reach.Put(d.answers(route.Reachable))
			d.after(time.Second)
		}
		d.wantTrees(1, "after twenty equal lists")
		if len(d.tables) != tables {
			d.t.Errorf("%d equal tables were given away", len(d.tables)-tables)
		}
		d.docker(listed("a.test", "b.test"))
		d.after(0)
		d.p.reach.Put(d.answers(route.Reachable))
		d.after(0)
		if got := hosts(d.trees[len(d.trees)-1]); got != "a.test b.test" {
			d.t.Errorf("the last tree serves %q", got)
		}
	})
}

// The grace period ends by time alone, and the tree follows on the second.
func TestTimeAloneChangesTheTree(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		d.docker(listed())
		d.after(0)
		d.wantTrees(2, "after the container went")
		d.after(10*time.Minute - time.Millisecond)
		d.wantTrees(2, "within the grace period")
		d.after(time.Second)
		d.wantTrees(3, "after the grace period")
		if got := hosts(d.trees[2]); got != "" {
			d.t.Errorf("the last tree serves %q", got)
		}
	})
}

// Who holds a host keeps it across a change of the configuration, which begins a
// new flow with a new planner.
func TestHostsAreHeldAcrossFlows(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		next := d.nextFlow()
		later := listed("a.test", "b.test")
		later.List[1].Labels["nagaya.host"] = "a.test"
		later.List[1].CreatedAt = later.List[1].CreatedAt.Add(-time.Hour) // older, and still not the holder
		next.docker(later)
		next.after(0)
		next.p.reach.Put(next.answers(route.Reachable))
		next.after(0)
		next.wantTrees(1, "in the next flow")
		if got := d.a.table.Sites[0].Family; got != "a.test" {
			d.t.Errorf("a.test belongs to %s now", got)
		}
	})
}

func TestSnippetsAreFollowed(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		dir := filepath.Join(d.p.settings.SnippetDir, "http.d")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "own.conf"), []byte("# mine\n"), 0o600); err != nil {
			d.t.Fatal(err)
		}
		d.after(2 * replan)
		d.wantTrees(2, "with a snippet of the operator's")
		if !strings.Contains(d.trees[1].Main, "own.conf") {
			d.t.Errorf("the snippet is not in\n%s", d.trees[1].Main)
		}
	})
}

// The watchdog must see that an idle planner lives, and that a stuck one does not.
func TestBeat(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		for range 100 {
			d.after(10 * time.Second)
			if !d.a.board.isAlive() {
				d.t.Fatal("the planner idles and counts as dead")
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, _ := newTestAgent(t)
		a.board.beat()
		time.Sleep(alivePatience)
		if a.board.isAlive() {
			t.Error("nothing was heard for long, and the flow counts as alive")
		}
	})
}

// An idle planner sleeps: whatever is unknown, it does not look again and again.
func TestIdlePlannerSleeps(t *testing.T) {
	for name, prepare := range map[string]func(d *desk){
		"nothing known": func(*desk) {},
		"served":        (*desk).served,
		"Docker went while it was held": func(d *desk) {
			d.known()
			d.docker(listed("a.test"))
			d.after(0)
			d.docker(tasks.Containers{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			planInBubble(t, noECS, func(d *desk) {
				prepare(d)
				d.after(firstHold + time.Second)
				before := d.beats
				d.after(time.Hour)
				if n := d.beats - before; n > 1000 {
					d.t.Errorf("it was awake %d times in an hour", n)
				}
			})
		})
	}
}

func TestBatchesAreCountedApart(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		if got := d.batches; len(got) != 0 {
			d.t.Errorf("batches %v before anything is known", got)
		}
		list := listed("a.test", "b.test", "c.test")
		list.List[1].Labels = map[string]string{"nagaya.batch": "true"}
		list.List[2].Labels, list.List[2].State = map[string]string{"nagaya.batch": "true"}, tasks.Exited
		d.docker(list)
		d.after(0)
		if c := d.counts[len(d.counts)-1]; c.Running != 2 || c.Batches != 1 || !c.Complete {
			d.t.Errorf("tasks %+v, want two that run, one of them a batch", c)
		}
		if got := fmt.Sprint(d.batches); got != "[[b-test]]" {
			d.t.Errorf("batches %s", got)
		}
	})
}

// Whoever holds a host name holds it after a restart of the agent as well, even
// against a container that is older and was refused it before.
func TestHostsAreHeldAcrossRestarts(t *testing.T) {
	a, c := newTestAgent(t)
	now := time.Now()
	container := func(name string, age time.Duration) tasks.Containers {
		l := listed("a.test")
		l.List[0].ID, l.List[0].Name = name, name
		l.List[0].CreatedAt, l.List[0].StartedAt = now.Add(-age), now.Add(-age)
		return l
	}
	owner, thief := container("owner", time.Minute), container("thief", time.Hour)
	both := owner
	both.List = append(both.List[:1:1], thief.List...)

	run := func(a *agent, lists ...tasks.Containers) string {
		p := newPlanner(a, c)
		p.keep = a.keepRoutes(c)
		p.local, p.pairs = netip.MustParseAddr("10.0.0.5"), certs.Inventory{Complete: true}
		for _, l := range lists {
			p.listed[0] = l
			for range 2 { // once to learn what to probe, once with the answer
				p.plan(now, func(w []route.Probe) {
					p.probed = route.Reach{}
					for _, one := range w {
						p.probed[one] = route.Reached{State: route.Reachable, Since: now}
					}
				}, func(nginx.Tree) {}, func(route.Table) {}, func(report.Tasks) {}, func([]string) {})
			}
		}
		if len(a.table.Sites) != 1 {
			t.Fatalf("sites %+v, want one", a.table.Sites)
		}
		return a.table.Sites[0].Family
	}
	if got := run(a, owner, both); got != "owner" {
		t.Fatalf("%q holds the host before the restart", got)
	}
	again := &agent{o: a.o, board: newBoard("test", now), restart: func() {}}
	if got := run(again, both); got != "owner" {
		t.Errorf("%q holds the host after the restart, want the owner", got)
	}
	if err := os.Remove(statePath(c, routesFile)); err != nil {
		t.Fatal(err)
	}
	blank := &agent{o: a.o, board: newBoard("test", now), restart: func() {}}
	if got := run(blank, both); got != "thief" {
		t.Errorf("%q holds the host although nothing was kept; the test is blind", got)
	}
}

// While containers are started, more changes are expected.
func TestStartsAreExpected(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		want := func(when string, want bool) {
			d.t.Helper()
			if got := len(d.outlooks) > 0 && d.outlooks[len(d.outlooks)-1].More; got != want {
				d.t.Errorf("%s: more are expected: %v, want %v", when, got, want)
			}
		}
		d.served()
		both := listed("a.test", "b.test")
		both.List[1].State, both.List[1].StartedAt, both.List[1].Addrs = tasks.Created, time.Time{}, nil
		d.docker(both)
		d.after(0)
		want("when it was made", true)
		d.docker(listed("a.test", "b.test"))
		d.after(0)
		want("when it was started", true)
		d.p.reach.Put(d.answers(route.Reachable))
		d.after(0)
		want("when it serves", false)
		if got := hosts(d.trees[len(d.trees)-1]); got != "a.test b.test" {
			d.t.Errorf("%q is served", got)
		}

		never := listed("a.test", "b.test", "c.test")
		never.List[2].State = tasks.Created
		d.docker(never)
		d.after(0)
		want("when another was made", true)
		d.after(time.Minute)
		want("while others may be started first", true)
		d.after(2 * time.Minute)
		want("when it never started", false)
	})
}

// A flow that has not heard of the probes yet does not say that routes lost their
// containers: neither to nginx, nor to who reads the table.
func TestNothingIsVacantBeforeItWasProbed(t *testing.T) {
	planInBubble(t, noECS, func(d *desk) {
		d.served()
		next := d.nextFlow()
		next.docker(listed("a.test"))
		next.after(time.Second)
		next.p.reach.Put(next.answers(route.Reachable))
		next.after(0)
		next.wantTrees(1, "after the probes")
		for i, table := range next.tables {
			if live := table.LiveHosts(); table.Complete && len(live) != 1 {
				d.t.Errorf("table %d of %d: live are %q", i+1, len(next.tables), live)
			}
		}
		if len(next.tables) == 0 {
			d.t.Error("no table was given away")
		}
	})
}
