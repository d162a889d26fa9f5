package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// output is a buffer that a timer of the handler and the test may use at once.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// lines returns what was written since the last call.
func (o *output) lines() []string {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.TrimSuffix(o.b.String(), "\n")
	o.b.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// repeatsTo returns a limiting handler and a function that returns what came through since the last call.
func repeatsTo(about ...string) (h *Repeats, written func() []string) {
	var out output
	return NewRepeats(newText(&out, slog.LevelInfo, false), about), out.lines
}

// remembered returns how many lines are remembered.
func (h *Repeats) remembered() int {
	h.seen.mu.Lock()
	defer h.seen.mu.Unlock()
	return len(h.seen.lines)
}

func expect(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestSameLineOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo()
		l := slog.New(h)
		for i := range 30 { // one every two seconds: 0 s, 2 s … 58 s
			l.Warn("list failed", "err", errors.New("refused"), "attempt", i)
			time.Sleep(2 * time.Second)
		}
		expect(t, "first minute", written(),
			"level=WARN msg=\"list failed\" err=refused attempt=0",
			"level=WARN msg=\"list failed\" err=refused attempt=29 repeated=29 last_at=2000-01-01T00:00:58Z")
		time.Sleep(10 * time.Second)
		l.Warn("list failed", "err", errors.New("refused"), "attempt", 30)
		expect(t, "held back in the second minute", written())
		time.Sleep(50 * time.Second)
		expect(t, "end of the second minute", written(), "level=WARN msg=\"list failed\" err=refused attempt=30 repeated=1 last_at=2000-01-01T00:01:10Z")
		time.Sleep(time.Minute)
		l.Warn("list failed", "err", errors.New("refused"), "attempt", 31)
		expect(t, "after a quiet minute", written(), "level=WARN msg=\"list failed\" err=refused attempt=31")
	})
}

func TestDifferentLinesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo()
		l := slog.New(h)
		l.Info("routed", "host", "a")
		l.Info("routed", "host", "b")
		l.Warn("routed", "host", "a")
		l.Info("left out", "host", "a")
		l.With("host", "a").Info("routed") // the same line said another way
		l.WithGroup("g").Info("routed", "host", "a")
		l.Debug("below the level")
		expect(t, "lines", written(),
			"level=INFO msg=routed host=a", "level=INFO msg=routed host=b", "level=WARN msg=routed host=a",
			"level=INFO msg=\"left out\" host=a", "level=INFO msg=routed g.host=a")
		h.Flush()
		expect(t, "flushed", written(), "level=INFO msg=routed host=a repeated=1 last_at=2000-01-01T00:00:00Z")
		time.Sleep(time.Hour)
		expect(t, "nothing is said twice", written())
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo()
		l := slog.New(h)
		l.Info("first")
		l.Info("first")
		for i := range 2 * repeatLines {
			l.Info(fmt.Sprint("line ", i))
		}
		l.Info(fmt.Sprint("line ", 2*repeatLines-1)) // not remembered, so it appears again
		if got := h.remembered(); got != repeatLines {
			t.Errorf("%d lines remembered, want %d", got, repeatLines)
		}
		if got, want := len(written()), 1+2*repeatLines+1; got != want {
			t.Errorf("%d lines, want %d", got, want)
		}
		time.Sleep(repeatEvery)
		expect(t, "what was held back is not lost", written(), "level=INFO msg=first repeated=1 last_at=2000-01-01T00:00:00Z")
		time.Sleep(time.Hour)
		l.Info("late")
		if got := h.remembered(); got != 1 {
			t.Errorf("%d lines remembered after an hour, want only the new one", got)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo()
		for i := range 8 {
			go func() {
				l := slog.New(h).With("who", i%4)
				for range 100 {
					l.Info("busy")
					time.Sleep(time.Second)
				}
			}()
		}
		time.Sleep(5 * time.Minute)
		h.Flush()
		stands := 0
		for _, line := range written() {
			n := 1
			if _, count, ok := strings.Cut(line, Repeated+"="); ok {
				if _, err := fmt.Sscan(count, &n); err != nil {
					t.Fatal(err)
				}
			}
			stands += n
		}
		if stands != 800 {
			t.Errorf("the lines stand for %d, want all 800", stands)
		}
	})
}

// A line that was held back can come after one that says the opposite: it tells when it happened.
func TestHeldLineTellsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo()
		l := slog.New(h)
		l.Warn("docker does not answer")
		time.Sleep(2 * time.Second)
		l.Warn("docker does not answer")
		time.Sleep(time.Second / 2)
		l.Info("docker answers")
		time.Sleep(time.Minute)
		expect(t, "lines", written(),
			`level=WARN msg="docker does not answer"`, `level=INFO msg="docker answers"`,
			`level=WARN msg="docker does not answer" repeated=1 last_at=2000-01-01T00:00:02Z`)
	})
}

// A line that names its event is the same whenever it is about the same thing,
// whatever else it says.
func TestSameEventOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, written := repeatsTo("host")
		l := slog.New(h)
		for i := range 20 {
			l.Info("routed", Event, "server-added", "host", "a.test", "after", i)
			time.Sleep(time.Second / 2)
			l.With("host", "b.test").Info(fmt.Sprintf("routed %d", i), Event, "server-added", "after", i)
			time.Sleep(time.Second / 2)
		}
		l.Warn("routed", Event, "server-added", "host", "a.test")
		l.Info("routed", Event, "server-removed", "host", "a.test")
		time.Sleep(time.Minute)
		expect(t, "two minutes", written(),
			"level=INFO msg=routed host=a.test after=0",
			`level=INFO msg="routed 0" host=b.test after=0`,
			"level=WARN msg=routed host=a.test",
			"level=INFO msg=routed host=a.test",
			"level=INFO msg=routed host=a.test after=19 repeated=19 last_at=2000-01-01T00:00:19Z",
			`level=INFO msg="routed 19" host=b.test after=19 repeated=19 last_at=2000-01-01T00:00:19Z`)
	})
}
