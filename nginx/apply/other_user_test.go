package apply

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Where nginx runs as another user than the agent, the problem has a remedy: a drop-in
// may have changed one of the two.
func TestNginxOfAnotherUser(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.run()
	st := r.serve(r.tree(site("a.test", backend(t, "hello"))))
	err := asNobody(t, func() error { return r.o.runtime(t).Signal(t.Context(), st.PID, nginx.Reload) })
	if !errors.Is(err, unix.EPERM) {
		t.Fatalf("error %v, want that it is not permitted", err)
	}
	if p := ProblemOf(err); p.Code != "nginx-of-another-user" || !strings.Contains(p.Hint, "User=") {
		t.Errorf("%+v", p)
	}
}

// asNobody calls f on a thread with the user nobody.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	become := func(id uintptr) {
		// For this thread alone: what package syscall has is for all of them.
		if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, id, id, 0); err != 0 {
			t.Fatal(err)
		}
	}
	become(nobody)
	defer become(0)
	return f()
}
