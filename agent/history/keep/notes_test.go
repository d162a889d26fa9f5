package keep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("TEST_HISTORY"); dir != "" {
		writeOn(dir)
		return
	}
	os.Exit(m.Run())
}

func events(t *testing.T, dir string) []history.Event {
	t.Helper()
	all, err := ReadEvents(dir, time.Time{}, time.Now().Add(1000*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lines are events as kind, subject and text.
func lines(all []history.Event) (text []string) {
	for _, e := range all {
		text = append(text, strings.TrimSpace(e.Kind+" "+e.Subject+" "+e.Text))
	}
	return text
}

// flush writes what waits, as Run does in a directory.
func flush(n *Notes, dir string) error {
	n.dir = dir
	return n.Flush()
}

// What is logged is in the history, whatever the log shows; also what is logged after the last flow.
func TestNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, notes := filepath.Join(t.TempDir(), Dir), NewNotes()
		var shown strings.Builder
		log := slog.New(notes.Handler(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelWarn})))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- Run(ctx, dir, func() report.Status { return report.Status{At: time.Now()} }, notes, func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}()
		log.Info("agent starts", event.Key, event.AgentStarted, "version", "1.2.3")
		log.Info("routes", event.Key, event.RoutesRead, "upstreams", 3)
		synctest.Wait()
		if got := lines(events(t, dir)); !slices.Equal(got, []string{"agent-started 1.2.3"}) {
			t.Errorf("at once: %q", got)
		}
		log.With("address", "203.0.113.10").Warn("address lost", event.Key, event.AddressLost, "holder", "nobody", "holder_id", "")
		log.Info("address released", event.Key, event.AddressReleased, "address", netip.Addr{})
		log.Debug("address lost", event.Key, event.AddressLost, "address", "debug")
		log.Info("job done", event.Key, event.BatchDone, "job", "report", "job_id", "report-1", "reason", "done", "spent", 11.5, "took", 90*time.Second)
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		log.Info("agent ends", event.Key, event.AgentStopped, "err", error(nil), "after", "1m0s")
		if err := notes.Flush(); err != nil {
			t.Error(err)
		}
		all := events(t, dir)
		want := []string{"agent-started 1.2.3", "address-lost 203.0.113.10 now with nobody", "address-released  released by the operator", "batch-done report-1 report: done", "agent-stopped"}
		if d := cmp.Diff(want, lines(all)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[string]history.Value{"spent": 11.5, "ran_seconds": 90}, all[3].Named()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if strings.Count(shown.String(), "\n") != 1 || !strings.Contains(shown.String(), "address lost") {
			t.Errorf("the log shows %q", shown.String())
		}
	})
}

// Nobody waits for the history, and it takes no more memory, where nothing is written.
func TestNotesThatNobodyWrites(t *testing.T) {
	notes := NewNotes()
	log := slog.New(notes.Handler(slog.DiscardHandler))
	for range 10 * mostWaiting {
		log.Info("", event.Key, event.GateClosed, "reason", "x")
	}
	if n := len(notes.waiting); n != mostWaiting {
		t.Errorf("%d wait", n)
	}
	if err := notes.Flush(); err != nil {
		t.Error(err)
	}
}

func jobEvent(at time.Time, n int) history.Event {
	e, _ := history.NewEvent(at, event.BatchAdmitted, map[string]string{"job_id": strconv.Itoa(n)})
	return e
}

// The newest take the place of the oldest; a clock that is put back changes nothing of that, nor does a torn event.
func TestARingOfEvents(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	places := history.Rings[jobEvent(now, 0).Ring()].Places
	n := 0
	more := func(count int, at time.Time) {
		notes := NewNotes() // as a new agent has them
		for range count {
			notes.waiting = append(notes.waiting, jobEvent(at.Add(time.Duration(n)*time.Second), n))
			n++
		}
		if err := flush(notes, dir); err != nil {
			t.Fatal(err)
		}
	}
	more(places-10, now)
	more(30, now.Add(-24*time.Hour))
	more(5, now)
	all := events(t, dir)
	if len(all) != places {
		t.Fatalf("%d events", len(all))
	}
	texts := map[string]bool{}
	for _, e := range all {
		texts[e.Subject] = true
	}
	for i := range n {
		if texts[strconv.Itoa(i)] != (i >= n-places) {
			t.Errorf("event %d of %d: %v", i, n, texts[strconv.Itoa(i)])
		}
	}
	file := filepath.Join(dir, history.Rings[2].Name)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[history.EventSize*100+50] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := len(events(t, dir)); got != places-1 {
		t.Errorf("%d events are left of %d when one is torn", got, places)
	}
	more(1, now)
	if got := events(t, dir); got[len(got)-1].Subject != strconv.Itoa(n-1) {
		t.Errorf("%+v", got[len(got)-1])
	}
}

// A crash loop of the agent, whose gate is closed each time, does not push out all else.
func TestACrashLoop(t *testing.T) {
	for _, kind := range []string{event.AgentStarted, event.GateClosed} {
		dir := t.TempDir()
		for i := range 300 {
			notes := NewNotes()
			e, _ := history.NewEvent(time.Now().Add(time.Duration(i)*time.Second), kind, map[string]string{"version": "1.2.3"})
			notes.waiting = []history.Event{e}
			if err := flush(notes, dir); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(events(t, dir)); got != history.Rings[history.Event{Kind: kind}.Ring()].Burst || got > 200 {
			t.Errorf("%d of %s in five minutes are kept", got, kind)
		}
	}
}

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// writeOn writes events and minutes until it is killed, and says how many events it has written.
func writeOn(dir string) {
	notes := NewNotes()
	w := writer{dir: dir}
	last, err := ReadEvents(dir, time.Time{}, time.Now())
	first := 0
	if len(last) > 0 {
		first, _ = strconv.Atoi(last[len(last)-1].Subject)
	}
	for n := first + 1; err == nil; n++ {
		notes.waiting = append(notes.waiting, jobEvent(time.Unix(int64(n), 0), n))
		err = flush(notes, dir)
		fmt.Println("event", n)
		start := epoch.Add(time.Duration(n) * time.Minute)
		if err == nil {
			err = w.minute(start, report.Status{At: start.Add(time.Minute), Traffic: traffic.Report{Since: time.Unix(1, 0), Hosts: []traffic.Host{{Host: "a.test", Counts: traffic.Counts{Requests: traffic.Classes{1: uint64(n)}}}}}})
		}
		fmt.Println("minute", n)
	}
	fmt.Println("error", err)
}

// A writer that is killed 100 times at any moment has lost nothing of what it had written.
func TestKilledWriter(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), Dir)
	if err := makeFiles(dir); err != nil {
		t.Fatal(err)
	}
	var wrote, minutes []int
	for kill := range 100 {
		c := exec.CommandContext(t.Context(), exe)
		c.Env = append(os.Environ(), "TEST_HISTORY="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for lines := 0; said.Scan(); lines++ {
			what, number, _ := strings.Cut(said.Text(), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(said.Text())
			}
			if what == "event" {
				wrote = append(wrote, n)
			} else {
				minutes = append(minutes, n)
			}
			if lines == kill%7 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = c.Wait()
	}
	texts := map[string]int{}
	for _, e := range events(t, dir) {
		texts[e.Subject]++
	}
	for _, n := range wrote {
		if len(wrote) < history.Rings[2].Places && texts[strconv.Itoa(n)] != 1 {
			t.Errorf("event %d is there %d times", n, texts[strconv.Itoa(n)])
		}
	}
	end := epoch.Add(time.Duration(slices.Max(minutes)+1) * time.Minute)
	all, err := Read(dir, end.Add(-40*time.Hour), end)
	if err != nil {
		t.Fatal(err)
	}
	have := map[int]bool{}
	for _, r := range all {
		have[int(r.Start.Sub(epoch)/time.Minute)] = true
	}
	for _, n := range minutes {
		if !have[n] {
			t.Errorf("minute %d is missing", n)
		}
	}
	if served, err := ReadHosts(dir, end.Add(-time.Hour), end); err != nil || len(served.Hosts) != 1 {
		t.Errorf("%+v, %v", served, err)
	}
}

// A full disk stops nothing that was begun. Where there is little room none is taken, and what could not begin is begun when there is.
func TestAFullDisk(t *testing.T) {
	root := t.TempDir()
	testenv.Need(t, syscall.Mount("tmpfs", root, "tmpfs", 0, "size=20m"))
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	dir, ballast := filepath.Join(root, Dir), filepath.Join(root, "ballast")
	fill := func(size int) {
		if err := os.WriteFile(ballast, make([]byte, size), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	fill(12<<20 + 1<<19)
	notes, w := NewNotes(), writer{dir: dir, fresh: true}
	notes.waiting = []history.Event{jobEvent(time.Unix(60, 0), 1)}
	start := time.Unix(60, 0).UTC()
	for _, err := range []error{w.minute(start, report.Status{At: start.Add(time.Minute)}), flush(notes, dir)} {
		if err == nil || !strings.Contains(err.Error(), "is not kept") {
			t.Errorf("on a disk of 8 MB: %v", err)
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(root, &fs); err != nil || int64(fs.Bavail)*fs.Bsize < 7<<20 {
		t.Errorf("%d bytes are left, %v", int64(fs.Bavail)*fs.Bsize, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	write := func(n int) {
		t.Helper()
		start = start.Add(time.Minute)
		if err := w.minute(start, report.Status{At: start.Add(time.Minute)}); err != nil {
			t.Error(err)
		}
		notes.waiting = append(notes.waiting, jobEvent(start, n))
		if err := flush(notes, dir); err != nil {
			t.Error(err)
		}
	}
	write(2)
	fill(20 << 20)
	write(3)
	if got := lines(events(t, dir)); !slices.Equal(got, []string{"batch-admitted 1 :", "batch-admitted 2 :", "batch-admitted 3 :"}) {
		t.Errorf("%q", got)
	}
	all, err := Read(dir, time.Unix(0, 0), start.Add(time.Minute))
	if err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}
