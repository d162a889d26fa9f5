package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Who takes over a worker of nginx can put anything in place of its log and its pid file. The
// agent neither waits for it nor reads it without end.
func TestPipesInThePlaceOfNginxsFiles(t *testing.T) {
	r := newRig(t)
	r.run()
	master := r.serve(r.tree(site("a.test", backend(t, "one")))).PID
	for _, file := range []string{nginx.ErrorLog(r.o.LogDir), nginx.PIDFile(r.o.RunDir)} {
		if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for what, read := range map[string]func() bool{
		"a message":  func() bool { return masterMessage(r.o.dirs(), master, 1) == "" },
		"the master": func() bool { return r.find() == master },
	} {
		done := make(chan bool, 1)
		go func() { done <- read() }()
		select {
		case ok := <-done:
			if !ok {
				t.Errorf("%s is another", what)
			}
		case <-time.After(time.Minute):
			t.Fatalf("reading %s does not end", what)
		}
	}
}

// A pipe in place of a log, which nobody reads, stops neither nginx nor the agent: changes wait until it is gone.
func TestAnUnreadPipeHangsNoNginx(t *testing.T) {
	for _, name := range []string{"error.log", "access.log"} {
		r := newRig(t)
		r.run()
		first := r.serve(r.tree(site("a.test", backend(t, "one"))))
		file := filepath.Join(r.o.LogDir, name)
		if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)); err != nil {
			t.Fatal(err)
		}
		next := r.tree(site("a.test", backend(t, "two")))
		r.wanted.Put(next)
		s := r.await("the pipe is named", func(s nginx.Status) bool { return hasProblem(s, "nginx-install-failed") })
		if p := s.Problems[0]; !strings.Contains(p.Text, file) || !strings.Contains(p.Hint, "rm "+file) || !s.Behind() {
			t.Errorf("%+v", p)
		}
		r.expect(r.http("a.test", "/"), 200, "one")
		reader, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that is read is a log like others
		if err != nil {
			t.Fatal(err)
		}
		if last := r.serve(next); last.PID != first.PID {
			t.Errorf("nginx was restarted: %+v", last)
		}
		r.expect(r.http("a.test", "/"), 200, "two")
		reader.Close()
	}
}
