package loop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// running is a loop that runs, with what it has published so far.
type running struct {
	sync.Mutex // tells the race detector that test and loop take turns
	t          *testing.T
	l          *Loop
	stop       func()
	published  []gate.Decision
	reports    int
	busy       float64 // vCPU-minutes that the host has used
	balance    float64
	anchor     time.Time
}

func options(dir string) Options {
	return Options{CreditFile: filepath.Join(dir, "credit.json"), GateFile: filepath.Join(dir, "gate.json")}
}

func inBubble(t *testing.T, test func(r *running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(start(t, options(t.TempDir()))) })
}

func start(t *testing.T, o Options) *running {
	r := &running{t: t, l: New(o)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.l.Run(ctx,
			func(credit.Report) { r.turn(); r.reports++ },
			func(d gate.Decision) { r.turn(); r.published = append(r.published, d) })
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

func (r *running) turn() {
	r.Lock()
	defer r.Unlock()
}

// cloudWatchPoint is a new point of CloudWatch.
func (r *running) cloudWatchPoint(balance float64) { r.balance, r.anchor = balance, time.Now() }

// pass lets time pass in which the host is metered every five seconds and idles.
func (r *running) pass(d time.Duration) {
	r.turn()
	for end := time.Now().Add(d); ; {
		r.busy += 5.0 / 60 * 0.02
		r.l.Readings.Put(credit.Reading{
			At: time.Now(), InstanceID: "i-1", Type: "t3.small", Mode: credit.Standard, ModeKnown: true,
			CPU:   credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: r.busy},
			Cloud: credit.Cloud{Balance: credit.Metric{Known: !r.anchor.IsZero(), Measure: credit.Measure{At: r.anchor, Value: r.balance}}},
		})
		synctest.Wait()
		if !time.Now().Add(5 * time.Second).Before(end) {
			time.Sleep(time.Until(end)) // virtual: in a bubble
			synctest.Wait()
			return
		}
		time.Sleep(5 * time.Second)
	}
}

func (r *running) now() gate.Decision {
	r.t.Helper()
	d, _ := r.l.lastDecision()
	return d
}

func job(id string, state gate.Phase, need float64) gate.Asked {
	name, _, _ := strings.Cut(id, "-")
	return gate.Asked{Job: gate.Job{ID: id, Name: name, Need: need}, State: state}
}

// ask asks and does not wait for a change.
func (r *running) ask(a gate.Asked) gate.Entry {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	e, err := r.l.Job(ctx, a)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

func TestAJobWaitsUntilThereAreCredits(t *testing.T) {
	inBubble(t, func(r *running) {
		r.cloudWatchPoint(10)
		r.pass(time.Minute)
		var got gate.Entry
		var err error
		back := make(chan struct{})
		go func() {
			defer close(back)
			for ok := true; ok; ok = err == nil && got.Phase == gate.Waiting {
				ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
				got, err = r.l.Job(ctx, job("j-1", gate.Waiting, 20))
				cancel()
			}
		}()
		r.pass(10 * time.Minute)
		select {
		case <-back:
			r.t.Fatalf("the job was answered without credits: %+v, %v", got, err)
		default:
		}
		r.cloudWatchPoint(500)
		r.pass(time.Second)
		select {
		case <-back:
		default:
			r.t.Fatalf("the job was not answered although there are credits: %+v", r.now())
		}
		if err != nil || got.Phase != gate.Admitted || got.ID != "j-1" || got.Expected != 20 {
			r.t.Errorf("answer %+v, %v", got, err)
		}
		if d := r.now(); d.Promised != 20 {
			r.t.Errorf("promised %.1f, want the job's 20", d.Promised)
		}
	})
}

func TestAJobsPatienceEnds(t *testing.T) {
	inBubble(t, func(r *running) {
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		got, err := r.l.Job(ctx, job("j-1", gate.Waiting, 20))
		if err != nil || got.Phase != gate.Waiting || got.Reason == "" {
			r.t.Errorf("answer %+v, %v; want one that waits, and why", got, err)
		}
		if took := time.Since(begun); took != 30*time.Second {
			r.t.Errorf("it took %s, want the patience", took)
		}
	})
}

func TestWhatAJobMaySay(t *testing.T) {
	inBubble(t, func(r *running) {
		if _, err := r.l.Job(r.t.Context(), gate.Asked{Job: gate.Job{Name: "j"}, State: gate.Waiting}); err == nil || !strings.Contains(err.Error(), "id") {
			r.t.Errorf("a job without an id: %v", err)
		}
		if e := r.ask(job("never-heard-of", gate.Done, 0)); e.Phase != gate.Done || e.ID != "never-heard-of" {
			r.t.Errorf("the end of an unknown job: %+v", e)
		}
		if e := r.ask(job("j", gate.Running, 5)); e.Phase != gate.Running {
			r.t.Errorf("a job that runs already: %+v", e)
		}
		r.pass(time.Second)
		if e := r.ask(job("j", gate.Done, 5)); e.Phase != gate.Done {
			r.t.Errorf("its end: %+v", e)
		}
	})
}

func TestPromisesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		r := start(t, o)
		r.cloudWatchPoint(500)
		r.pass(time.Minute)
		if e := r.ask(job("j-1", gate.Waiting, 20)); e.Phase != gate.Admitted {
			t.Fatalf("answer %+v", e)
		}
		r.stop()

		time.Sleep(30 * time.Second)
		again := start(t, o)
		again.busy, again.balance, again.anchor = r.busy, r.balance, r.anchor
		again.pass(10 * time.Second)
		d := again.now()
		if e, ok := d.Job("j-1"); !ok || e.Phase != gate.Admitted || d.Promised != 20 {
			t.Errorf("decision %+v; want the promise still", d)
		}
	})
}

// A gate that is open stays so while the configuration is read again, and is said to have been open since it opened: nothing is
// decided, not for a job that asks at once either, before instance and meter are known again.
func TestTheGateStaysOpenAcrossAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		r := start(t, o)
		r.l.Identity.Put(identity.Identity{})
		r.cloudWatchPoint(500)
		r.pass(10 * time.Minute)
		before := r.now()
		r.stop()

		time.Sleep(2 * time.Second)
		again := start(t, o)
		again.busy, again.balance, again.anchor = r.busy, r.balance, r.anchor
		answered := make(chan gate.Entry)
		go func() { answered <- again.ask(job("j-1", gate.Waiting, 20)) }()
		time.Sleep(time.Second)
		again.l.Identity.Put(identity.Identity{})
		again.pass(time.Second)
		again.turn()
		if e := <-answered; e.Phase != gate.Admitted {
			t.Errorf("answer %+v", e)
		}
		for _, d := range again.published {
			if !before.Open || !d.Open || !d.Since.Equal(before.Since) {
				t.Errorf("open %v since %s, want open since %s: %s", d.Open, d.Since, before.Since, d.Reason)
			}
		}
		if len(again.published) == 0 {
			t.Error("nothing was published")
		}
	})
}

// Where neither becomes known the gate says so before long.
func TestTheFirstDecisionIsNotWaitedForLong(t *testing.T) {
	inBubble(t, func(r *running) {
		time.Sleep(startPatience)
		synctest.Wait()
		r.turn()
		if len(r.published) == 0 || r.published[0].Open {
			r.t.Errorf("published %+v", r.published)
		}
	})
}

// A promise is on disk before long: a crash, after which nothing is written, must
// not lose it.
func TestPromisesSurviveACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		r := start(t, o)
		r.cloudWatchPoint(500)
		r.pass(time.Minute)
		r.ask(job("j-1", gate.Waiting, 20))
		r.pass(2 * time.Second)
		b, err := os.ReadFile(o.GateFile)
		if err != nil || !strings.Contains(string(b), "j-1") {
			t.Errorf("kept is %s, %v", b, err)
		}
	})
}

// What cannot be read counts as empty, and not as half of what it was.
func TestDamagedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		for _, file := range []string{o.GateFile, o.CreditFile} {
			if err := os.WriteFile(file, []byte(`{"open": true, "since": "2000-01-01T00:00:00Z", "jobs": "x"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := start(t, o)
		time.Sleep(startPatience)
		synctest.Wait()
		if d := r.now(); d.Open || !d.Since.Equal(time.Now()) {
			t.Errorf("decision %+v; want one that knows nothing", d)
		}
	})
}

func TestSilentJobsLoseTheirPromise(t *testing.T) {
	inBubble(t, func(r *running) {
		r.cloudWatchPoint(500)
		r.pass(time.Minute)
		for _, id := range []string{"silent", "loud"} {
			if e := r.ask(job(id, gate.Waiting, 20)); e.Phase != gate.Admitted {
				r.t.Fatalf("answer %+v", e)
			}
		}
		for range 6 {
			r.pass(30 * time.Second)
			r.ask(job("loud", gate.Running, 20))
		}
		d := r.now()
		if _, ok := d.Job("silent"); ok || d.Promised != 20 {
			r.t.Errorf("decision %+v; want only the loud job's promise", d)
		}
		if _, ok := d.Job("loud"); !ok {
			r.t.Error("the loud job was dropped")
		}
	})
}

func TestNothingStartsOnAnInstanceThatLeaves(t *testing.T) {
	inBubble(t, func(r *running) {
		r.cloudWatchPoint(500)
		r.pass(10 * time.Minute) // a gate does not open at once
		if d := r.now(); !d.Open {
			r.t.Fatalf("decision %+v; want an open gate", d)
		}
		r.l.Identity.Put(identity.Identity{Notices: []identity.Notice{{Kind: identity.SpotInterruption}}})
		synctest.Wait()
		d := r.now()
		if d.Open || !strings.Contains(d.Reason, "interrupts") {
			r.t.Errorf("decision %+v; want it held", d)
		}
		if got := r.published[len(r.published)-1]; got.Open {
			r.t.Error("it was not published at once")
		}
		if e := r.ask(job("j-1", gate.Waiting, 1)); e.Phase != gate.Waiting {
			r.t.Errorf("answer %+v", e)
		}
		r.l.Identity.Put(identity.Identity{})
		r.pass(10 * time.Minute)
		if d := r.now(); !d.Open {
			r.t.Errorf("decision %+v; want it open again", d)
		}
		r.l.Released.Put([]string{"eipalloc-1"})
		synctest.Wait()
		if d := r.now(); d.Open || !strings.Contains(d.Reason, "released eipalloc-1") {
			r.t.Errorf("decision %+v; want it held while the address is given away", d)
		}
		r.l.Released.Put(nil)
		r.pass(10 * time.Minute)
		if d := r.now(); !d.Open {
			r.t.Errorf("decision %+v; want it open after the claim", d)
		}
	})
}

// A job for which there is no room in the queue waits like the others: a client
// that is answered at once asks again at once.
func TestAFullQueueHoldsTheRest(t *testing.T) {
	inBubble(t, func(r *running) {
		for i := range 500 {
			r.ask(job(fmt.Sprintf("j-%d", i), gate.Waiting, 20))
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		e, err := r.l.Job(ctx, job("one-more", gate.Waiting, 20))
		if err != nil || e.Phase != gate.Waiting || !strings.Contains(e.Reason, "too many") || time.Since(begun) < 30*time.Second {
			r.t.Errorf("after %s: %+v, %v", time.Since(begun), e, err)
		}
	})
}

// Clients that ask in a loop are all answered, and a decision is published at most
// once a second.
func TestAFloodOfQuestions(t *testing.T) {
	inBubble(t, func(r *running) {
		r.cloudWatchPoint(10)
		r.pass(time.Minute)
		published := len(r.published)
		for i := range 1000 {
			if e := r.ask(job(fmt.Sprintf("j-%d", i%10), gate.Waiting, 20)); e.Phase != gate.Waiting {
				r.t.Fatalf("question %d: %+v", i, e)
			}
		}
		if n := len(r.published) - published; n > 1 {
			r.t.Errorf("%d decisions were published within a moment", n)
		}
		r.pass(2 * time.Second)
		if n := len(r.published) - published; n < 1 || n > 3 {
			r.t.Errorf("%d decisions were published in two seconds", n)
		}
		if got := len(r.published[len(r.published)-1].Jobs); got != 10 {
			r.t.Errorf("%d jobs are published, want 10", got)
		}
	})
}

// Meter readings come every five seconds; each is reported, and few are reasons to
// decide again.
func TestReadingsAreNotDecisions(t *testing.T) {
	inBubble(t, func(r *running) {
		r.cloudWatchPoint(500)
		r.pass(time.Minute)
		published, reports := len(r.published), r.reports
		r.pass(10 * time.Minute)
		if n := r.reports - reports; n < 118 || n > 122 {
			r.t.Errorf("%d readings were reported in ten minutes, want 120", n)
		}
		if n := len(r.published) - published; n < 18 || n > 25 {
			r.t.Errorf("%d decisions in ten minutes, want one each half minute", n)
		}
	})
}

func TestAStoppedLoopDoesNotBlockAJob(t *testing.T) {
	inBubble(t, func(r *running) {
		r.stop()
		begun := time.Now()
		if _, err := r.l.Job(r.t.Context(), job("j", gate.Waiting, 1)); err == nil {
			r.t.Error("a stopped loop answered")
		}
		if took := time.Since(begun); took > 10*time.Second {
			r.t.Errorf("it took %s", took)
		}
	})
}

// A job that runs and says how it is held back is answered when that changes, and not before.
func TestARunningJobHearsOfTheBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		o.Settings.Slow = gate.SlowPause
		r := start(t, o)
		r.cloudWatchPoint(500)
		r.pass(time.Minute)
		r.ask(job("j", gate.Running, 20))
		r.pass(2 * time.Second)
		asked := job("j", gate.Running, 20)
		answered := make(chan gate.Entry, 1)
		ask := func() {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				e, err := r.l.Job(ctx, asked)
				if err != nil {
					t.Error(err)
				}
				answered <- e
			}()
			synctest.Wait()
		}
		ask()
		select {
		case e := <-answered:
			t.Fatalf("answered at once: %+v", e)
		default:
		}
		r.cloudWatchPoint(5)
		r.pass(time.Second)
		select {
		case e := <-answered:
			if e.Slow != gate.SlowPause || !strings.Contains(e.Reason, "paused") {
				t.Errorf("answer %+v", e)
			}
		default:
			t.Fatalf("not answered: %+v", r.now().Brake)
		}
		asked.Slow = gate.SlowPause
		ask()
		r.pass(31 * time.Second)
		if e := <-answered; e.Slow != gate.SlowPause {
			t.Errorf("answer %+v", e)
		}
	})
}
