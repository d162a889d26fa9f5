package apply

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Who takes over a worker of nginx can put anything in the place of its log and its pid file. The
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
