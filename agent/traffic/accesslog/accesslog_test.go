package accesslog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// offer is that of one site and one port, with logs in a directory.
func offer(dir string) nginx.Offer {
	return nginx.Offer{
		Generation: "1",
		Table: route.Table{Complete: true, Shape: route.Shape{
			Sites:   []route.Site{{Host: "a.test"}},
			Streams: []route.Stream{{Listen: route.Listen{Protocol: route.TCP, Port: 22}}},
		}},
		Logs: nginx.Logs{
			Requests: nginx.Log{Path: filepath.Join(dir, "access.log"), Format: "$host $status"},
			Sessions: nginx.Log{Path: filepath.Join(dir, "stream.log"), Format: "$protocol $server_port $status"},
		},
	}
}

// write appends to a file of a directory.
func write(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

const one = "a.test 200\n"

// What is added is counted once, whatever becomes of the file.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "access.log")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var old *os.File
	l := New()
	for _, step := range []struct {
		name string
		do   func()
		want uint64 // requests in all
	}{
		{"there was something", func() { write(t, file, one+one+"a.test 2"); l.set(offer(dir)) }, 0},
		{"the rest of a line whose begin is of the past", func() { write(t, file, "00\n") }, 0},
		{"a line", func() { write(t, file, one) }, 1},
		{"half a line", func() { write(t, file, "a.test ") }, 1},
		{"its other half", func() { write(t, file, "200\n"+one) }, 3},
		{"lines of another format, and empty ones", func() { write(t, file, "\n\nx\na.test x\n"+one) }, 4},
		{"more than is read at once", func() { write(t, file, strings.Repeat(one, 100_000)) }, 100_004},
		{"a long line", func() { write(t, file, strings.Repeat("x", 5*longest)+"\n"+one) }, 100_005},
		{"a line as long as may be, and a longer one", func() {
			write(t, file, "a.test 200 "+strings.Repeat("x", longest-11)+"\n"+"a.test 200 "+strings.Repeat("x", longest-10)+"\n")
		}, 100_005},
		{"the begin of a longer line", func() { write(t, file, strings.Repeat("x", longest+1)) }, 100_005},
		{"and its end", func() { write(t, file, "\n"+one) }, 100_006},
		{"rotated, and not opened again", func() {
			write(t, file, one)
			must(os.Rename(file, file+".1"))
			write(t, file+".1", one)
		}, 100_008},
		{"the same configuration again", func() { l.set(offer(dir)); write(t, file+".1", one) }, 100_009},
		{"opened again, with a line at the old one", func() {
			write(t, file, one+one)
			write(t, file+".1", one)
		}, 100_012},
		{"a worker that is late", func() { write(t, file+".1", one) }, 100_013},
		{"truncated, as by copytruncate", func() { must(os.Truncate(file, 0)); write(t, file, one) }, 100_014},
		{"removed", func() {
			var err error
			old, err = os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			must(err)
			must(os.Remove(file))
			_, err = old.WriteString(one)
			must(err)
		}, 100_015},
		{"and made again", func() { write(t, file, one) }, 100_016},
		{"by two at once", func() {
			_, err := old.WriteString(one)
			must(err)
			write(t, file, one)
		}, 100_018},
		{"put aside for another, and put back", func() {
			must(os.Rename(file, file+".2"))
			write(t, file, one)
			l.read()
			must(os.Rename(file+".2", file))
			write(t, file, one)
		}, 100_020},
	} {
		step.do()
		for l.read() {
		}
		if got := l.Report().Hosts[0].Requests.All(); got != step.want {
			t.Fatalf("%s: %d requests, want %d", step.name, got, step.want)
		}
	}
	must(old.Close())
	if r := l.Report(); r.Unavailable != "" || len(r.Hosts) != 1 {
		t.Errorf("report %+v", r)
	}
	// The one from before a rotation is not kept open forever.
	l.requests.oldUntil = time.Now().Add(-time.Second)
	l.Report()
	if l.requests.old != nil {
		t.Error("the file from before the rotation is still open")
	}
}

// Lines of the format from before are read too: workers from before a reload write them.
func TestFormatChanges(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "access.log")
	l := New()
	o := offer(dir)
	l.set(o)
	l.read()
	write(t, file, one)
	o.Logs.Requests.Format = "$status|$host"
	l.set(o)
	l.set(o)
	write(t, file, one+"200|a.test\n"+one)
	l.read()
	for i := range 9 {
		o.Logs.Requests.Format = fmt.Sprint(i, " $status $host")
		l.set(o)
		write(t, file, fmt.Sprint(i, " 200 a.test\n"))
	}
	// Of the nine formats the last three are known when the lines are read.
	if got := l.Report().Hosts[0].Requests.All(); got != 1+1+2+3 || len(l.requests.formats) != mostFormats {
		t.Errorf("%d requests by %d formats", got, len(l.requests.formats))
	}
}

// A log of any size costs nothing at the start.
func TestLargeFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "access.log")
	write(t, file, "x")
	if err := os.Truncate(file, 10<<30); err != nil {
		t.Fatal(err)
	}
	l := New()
	l.set(offer(dir))
	if l.read() {
		t.Error("there is more to read")
	}
	write(t, file, "\n"+one)
	if got := l.Report().Hosts[0].Requests.All(); got != 1 {
		t.Errorf("%d requests", got)
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	if l.read() {
		t.Error("a terabyte that nobody has written is read")
	}
	write(t, file, "\n"+one)
	if got := l.Report().Hosts[0].Requests.All(); got != 2 {
		t.Errorf("%d requests", got)
	}
}

// Lines that take long do not keep those waiting who ask for the status.
func TestSlowLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "access.log")
		write(t, file, "")
		l := log{tail: tail{path: file}}
		count := 0
		look := func() bool {
			return l.each(make([]byte, 4*longest), func(*traffic.Format, []byte) bool {
				count++
				time.Sleep(time.Millisecond)
				return true
			})
		}
		l.to(nginx.Log{Path: file})
		look()
		write(t, file, strings.Repeat(one, 100_000))
		began := time.Now()
		for more := true; more; {
			at := time.Now()
			more = look()
			if took := time.Since(at); took > 5*time.Second {
				t.Fatalf("one look took %s", took)
			}
		}
		if took := time.Since(began); count != 100_000 || took != 100*time.Second {
			t.Errorf("%d lines in %s", count, took)
		}
	})
}

// What cannot be read is said, and read once it can be.
func TestUnreadable(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	dir := t.TempDir()
	file := filepath.Join(dir, "access.log")
	l := New()
	if r := l.Report(); !strings.Contains(r.Unavailable, "not known yet") {
		t.Errorf("before the first configuration: %q", r.Unavailable)
	}
	l.set(offer(dir))
	says := func(want string) {
		t.Helper()
		if got := l.Report().Unavailable; want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("unavailable: %q, want %q", got, want)
		}
	}
	says("") // nginx has not made it yet
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	says("no regular file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(t, file, one)
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := unix.Setfsuid(65534); err != nil { // which takes root's rights to files from this thread
			t.Fatal(err)
		}
	}
	says("access.log: permission denied; let the agent's user read it")
	if os.Geteuid() == 0 {
		if err := unix.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	says("")
	if got := l.Report().Hosts[0].Requests.All(); got != 1 {
		t.Errorf("%d requests, want the one that was written while it could not be read", got)
	}
}

// The logs are looked at every ten seconds, and a second run goes on where the first ended.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	requests, sessions := filepath.Join(dir, "access.log"), filepath.Join(dir, "stream.log")
	synctest.Test(t, func(t *testing.T) {
		l := New()
		seen := func() string {
			l.mu.Lock()
			defer l.mu.Unlock()
			r := l.counter.Report(l.where, "", nil)
			if len(r.Hosts) == 0 {
				return "nothing"
			}
			return fmt.Sprint(r.Hosts[0].Requests.All(), " ", r.Streams[0].Connections)
		}
		for run := range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			offers, ended := make(chan nginx.Offer), make(chan error, 1)
			go func() { ended <- l.Run(ctx, offers) }()
			offers <- nginx.Offer{Table: offer(dir).Table} // nothing has been rendered yet
			offers <- offer(dir)
			synctest.Wait()
			write(t, requests, one)
			write(t, sessions, "TCP 22 200\n")
			time.Sleep(every - time.Second)
			synctest.Wait()
			if got, want := seen(), fmt.Sprintf("%d %d", 2*run, 2*run); got != want {
				t.Errorf("run %d: %s within ten seconds, want %s", run, got, want)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got, want := seen(), fmt.Sprintf("%d %d", 2*run+1, 2*run+1); got != want {
				t.Errorf("run %d: %s after ten seconds, want %s", run, got, want)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			write(t, requests, one) // between two flows
			write(t, sessions, "TCP 22 200\n")
		}
		if got := l.Report(); got.Hosts[0].Requests.All() != 4 || got.Streams[0].Connections != 4 {
			t.Errorf("at last %+v", got)
		}
	})
}
