package proc

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// The test's process gets orphans as process 1 of a container does.
func TestReapZombies(t *testing.T) {
	testenv.Need(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ReapZombies(ctx, 100*time.Millisecond) }()

	out, err := exec.Command("sh", "-c", "sleep 0.2 >/dev/null & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for deadline := time.Now().Add(20 * time.Second); ; {
		is := slices.Contains(zombies(os.Getpid()), orphan)
		if seen = seen || is; seen && !is {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d: seen as a zombie: %v, still one: %v", orphan, seen, is)
		}
		// What was started here is left to whoever started it.
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
