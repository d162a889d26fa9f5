package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// porch is a door that runs, with what it has given away so far.
type porch struct {
	turns
	t         *testing.T
	d         *door
	stop      func()
	published []gate.Decision
	shown     []gate.Decision
	credits   int
	busy      float64 // vCPU-minutes that the host has used
	balance   float64
	anchor    time.Time
}

func doorInBubble(t *testing.T, test func(p *porch)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		test(openDoor(t, a, c))
	})
}

func openDoor(t *testing.T, a *agent, c config.Config) *porch {
	p := &porch{t: t, d: newDoor(a, c)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.d.run(ctx,
			func(d gate.Decision) { p.turn(); p.published = append(p.published, d) },
			func(credit.Report) { p.turn(); p.credits++ },
			func(d gate.Decision) { p.turn(); p.shown = append(p.shown, d) })
	}()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(p.stop)
	synctest.Wait()
	return p
}

// cloudSays is a new point of CloudWatch.
func (p *porch) cloudSays(balance float64) { p.balance, p.anchor = balance, time.Now() }

// pass lets time pass in which the host is metered every five seconds and idles.
func (p *porch) pass(d time.Duration) {
	p.turn()
	for end := time.Now().Add(d); ; {
		p.busy += 5.0 / 60 * 0.02
		p.d.readings.Put(credit.Reading{
			At: time.Now(), InstanceID: "i-1", Type: "t3.small", Mode: credit.Standard, ModeKnown: true,
			CPU:   credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: p.busy},
			Cloud: credit.Cloud{Balance: credit.Metric{Known: !p.anchor.IsZero(), Measure: credit.Measure{At: p.anchor, Value: p.balance}}},
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

func (p *porch) now() gate.Decision {
	p.t.Helper()
	d, _ := p.d.last()
	return d
}

func job(id string, state gate.Phase, need float64) gate.Asked {
	return gate.Asked{Job: gate.Job{ID: id, Name: "report", Need: need}, State: state}
}

// say asks with no patience.
func (p *porch) say(a gate.Asked) gate.Entry {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	cancel()
	e, err := p.d.job(ctx, a)
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

func TestAJobWaitsUntilThereAreCredits(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.cloudSays(10)
		p.pass(time.Minute)
		var got gate.Entry
		var err error
		back := make(chan struct{})
		go func() {
			defer close(back)
			for ok := true; ok; ok = err == nil && got.Phase == gate.Waiting {
				ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
				got, err = p.d.job(ctx, job("j-1", gate.Waiting, 20))
				cancel()
			}
		}()
		p.pass(10 * time.Minute)
		select {
		case <-back:
			p.t.Fatalf("the job was answered without credits: %+v, %v", got, err)
		default:
		}
		p.cloudSays(500)
		p.pass(time.Second)
		select {
		case <-back:
		default:
			p.t.Fatalf("the job was not answered although there are credits: %+v", p.now())
		}
		if err != nil || got.Phase != gate.Admitted || got.ID != "j-1" || got.Expected != 20 {
			p.t.Errorf("answer %+v, %v", got, err)
		}
		if d := p.now(); d.Promised != 20 {
			p.t.Errorf("promised %.1f, want the job's 20", d.Promised)
		}
	})
}

func TestAJobsPatienceEnds(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		got, err := p.d.job(ctx, job("j-1", gate.Waiting, 20))
		if err != nil || got.Phase != gate.Waiting || got.Reason == "" {
			p.t.Errorf("answer %+v, %v; want one that waits, and why", got, err)
		}
		if took := time.Since(begun); took != 30*time.Second {
			p.t.Errorf("it took %s, want the patience", took)
		}
	})
}

func TestWhatAJobMaySay(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		if _, err := p.d.job(p.t.Context(), gate.Asked{State: gate.Waiting}); err == nil || !strings.Contains(err.Error(), "id") {
			p.t.Errorf("a job without an id: %v", err)
		}
		if e := p.say(job("never-heard-of", gate.Done, 0)); e.Phase != gate.Done || e.ID != "never-heard-of" {
			p.t.Errorf("the end of an unknown job: %+v", e)
		}
		if e := p.say(job("j", gate.Running, 5)); e.Phase != gate.Running {
			p.t.Errorf("a job that runs already: %+v", e)
		}
		p.pass(time.Second)
		if e := p.say(job("j", gate.Done, 5)); e.Phase != gate.Done {
			p.t.Errorf("its end: %+v", e)
		}
	})
}

func TestPromisesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		p := openDoor(t, a, c)
		p.cloudSays(500)
		p.pass(time.Minute)
		if e := p.say(job("j-1", gate.Waiting, 20)); e.Phase != gate.Admitted {
			t.Fatalf("answer %+v", e)
		}
		p.stop()

		time.Sleep(30 * time.Second)
		again := openDoor(t, a, c)
		again.busy, again.balance, again.anchor = p.busy, p.balance, p.anchor
		again.pass(10 * time.Second)
		d := again.now()
		if e, ok := d.Job("j-1"); !ok || e.Phase != gate.Admitted || d.Promised != 20 {
			t.Errorf("decision %+v; want the promise still", d)
		}
	})
}

// A promise is on disk before long: a crash, after which nothing is written, must
// not lose it.
func TestPromisesSurviveACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		p := openDoor(t, a, c)
		p.cloudSays(500)
		p.pass(time.Minute)
		p.say(job("j-1", gate.Waiting, 20))
		p.pass(2 * time.Second)
		b, err := os.ReadFile(filepath.Join(c.StateDir, "gate.json"))
		if err != nil || !strings.Contains(string(b), "j-1") {
			t.Errorf("kept is %s, %v", b, err)
		}
	})
}

// What cannot be read counts as empty, and not as half of what it was.
func TestDamagedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		for _, name := range []string{"gate.json", "credit.json"} {
			if err := os.WriteFile(filepath.Join(c.StateDir, name), []byte(`{"open": true, "since": "2000-01-01T00:00:00Z", "jobs": "x"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := openDoor(t, a, c)
		if d := p.now(); d.Open || !d.Since.Equal(time.Now()) {
			t.Errorf("decision %+v; want one that knows nothing", d)
		}
	})
}

func TestSilentJobsLoseTheirPromise(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.cloudSays(500)
		p.pass(time.Minute)
		for _, id := range []string{"silent", "loud"} {
			if e := p.say(job(id, gate.Waiting, 20)); e.Phase != gate.Admitted {
				p.t.Fatalf("answer %+v", e)
			}
		}
		for range 6 {
			p.pass(30 * time.Second)
			p.say(job("loud", gate.Running, 20))
		}
		d := p.now()
		if _, ok := d.Job("silent"); ok || d.Promised != 20 {
			p.t.Errorf("decision %+v; want only the loud job's promise", d)
		}
		if _, ok := d.Job("loud"); !ok {
			p.t.Error("the loud job was dropped")
		}
	})
}

func TestNothingStartsOnAnInstanceThatLeaves(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.cloudSays(500)
		p.pass(10 * time.Minute) // a gate does not open at once
		if d := p.now(); !d.Open {
			p.t.Fatalf("decision %+v; want an open gate", d)
		}
		p.d.identity.Put(identity.Identity{Notices: []identity.Notice{{Kind: identity.SpotInterruption}}})
		synctest.Wait()
		d := p.now()
		if d.Open || !strings.Contains(d.Reason, "interrupts") {
			p.t.Errorf("decision %+v; want it held", d)
		}
		if got := p.published[len(p.published)-1]; got.Open {
			p.t.Error("it was not published at once")
		}
		if e := p.say(job("j-1", gate.Waiting, 1)); e.Phase != gate.Waiting {
			p.t.Errorf("answer %+v", e)
		}
		p.d.identity.Put(identity.Identity{})
		p.pass(10 * time.Minute)
		if d := p.now(); !d.Open {
			p.t.Errorf("decision %+v; want it open again", d)
		}
		p.d.released.Put([]string{"eipalloc-1"})
		synctest.Wait()
		if d := p.now(); d.Open || !strings.Contains(d.Reason, "released eipalloc-1") {
			p.t.Errorf("decision %+v; want it held while the address is given away", d)
		}
		p.d.released.Put(nil)
		p.pass(10 * time.Minute)
		if d := p.now(); !d.Open {
			p.t.Errorf("decision %+v; want it open after the claim", d)
		}
	})
}

// A job for which there is no room in the queue waits like the others: a client
// that is answered at once asks again at once.
func TestAFullQueueHoldsTheRest(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		for i := range 500 {
			p.say(job(fmt.Sprintf("j-%d", i), gate.Waiting, 20))
		}
		ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		e, err := p.d.job(ctx, job("one-more", gate.Waiting, 20))
		if err != nil || e.Phase != gate.Waiting || !strings.Contains(e.Reason, "too many") || time.Since(begun) < 30*time.Second {
			p.t.Errorf("after %s: %+v, %v", time.Since(begun), e, err)
		}
	})
}

// Clients that ask in a loop are all answered, and nobody else hears of it more
// than once a second.
func TestAFloodOfQuestions(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.cloudSays(10)
		p.pass(time.Minute)
		published, shown := len(p.published), len(p.shown)
		for i := range 1000 {
			if e := p.say(job(fmt.Sprintf("j-%d", i%10), gate.Waiting, 20)); e.Phase != gate.Waiting {
				p.t.Fatalf("question %d: %+v", i, e)
			}
		}
		if n, m := len(p.published)-published, len(p.shown)-shown; n > 1 || m > 1 {
			p.t.Errorf("%d decisions were published and %d shown within a moment", n, m)
		}
		p.pass(2 * time.Second)
		if n := len(p.shown) - shown; n < 1 || n > 3 {
			p.t.Errorf("%d decisions were shown in two seconds", n)
		}
		if got := len(p.shown[len(p.shown)-1].Jobs); got != 10 {
			p.t.Errorf("%d jobs are shown, want 10", got)
		}
	})
}

// Meter readings come every five seconds; each is shown, and few are reasons to
// decide anew.
func TestReadingsAreNotDecisions(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.cloudSays(500)
		p.pass(time.Minute)
		shown, credits := len(p.shown), p.credits
		p.pass(10 * time.Minute)
		if n := p.credits - credits; n < 118 || n > 122 {
			p.t.Errorf("%d readings were shown in ten minutes, want 120", n)
		}
		if n := len(p.shown) - shown; n < 18 || n > 25 {
			p.t.Errorf("%d decisions in ten minutes, want one each half minute", n)
		}
	})
}

func TestADoorThatIsShutDoesNotHoldAnybodyUp(t *testing.T) {
	doorInBubble(t, func(p *porch) {
		p.stop()
		begun := time.Now()
		if _, err := p.d.job(p.t.Context(), job("j", gate.Waiting, 1)); err == nil {
			p.t.Error("a door that is shut answered")
		}
		if took := time.Since(begun); took > 10*time.Second {
			p.t.Errorf("it took %s", took)
		}
	})
}

// A job that runs and says how it is held back is answered when that changes, and not before.
func TestARunningJobHearsOfTheBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newTestAgent(t)
		c.Gate.Slow = "pause"
		p := openDoor(t, a, c)
		p.cloudSays(500)
		p.pass(time.Minute)
		p.say(job("j", gate.Running, 20))
		p.pass(2 * time.Second)
		asked := job("j", gate.Running, 20)
		answered := make(chan gate.Entry, 1)
		ask := func() {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				e, err := p.d.job(ctx, asked)
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
		p.cloudSays(5)
		p.pass(time.Second)
		select {
		case e := <-answered:
			if e.Slow != gate.SlowPause || !strings.Contains(e.Reason, "paused") {
				t.Errorf("answer %+v", e)
			}
		default:
			t.Fatalf("not answered: %+v", p.now().Brake)
		}
		asked.Slow = gate.SlowPause
		ask()
		p.pass(31 * time.Second)
		if e := <-answered; e.Slow != gate.SlowPause {
			t.Errorf("answer %+v", e)
		}
	})
}
