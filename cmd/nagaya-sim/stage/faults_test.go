package stage

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// A container that is started and killed every 200 ms, or as fast as Docker can, costs
// a bounded number of reloads and little CPU time, and its neighbours nothing.
func TestFaultContainerFlaps(t *testing.T) {
	s, nginx := household(t, Options{})
	id, err := s.Create(t.Context(), service("flapper", "1", "b.test"))
	must(t, err)
	_, end := unbroken(t, s, "a.test", 50)
	before := settled(t, s)
	cpu := spent(t, s.AgentPID()) + spent(t, nginx)

	const span = 8 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	began, lives := time.Now(), 0
	for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; lives++ {
		_, err := s.Docker.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
		must(t, err)
		<-tick.C
		_, err = s.Docker.ContainerKill(t.Context(), id, client.ContainerKillOptions{Signal: "KILL"})
		must(t, err)
		<-tick.C
	}
	took := time.Since(began)
	after, err := s.Board(t.Context())
	must(t, err)
	cpu = spent(t, s.AgentPID()) + spent(t, nginx) - cpu
	reloads := after.Nginx.Reloads - before.Nginx.Reloads
	t.Logf("%d lives in %s: %d reloads, %s of CPU time", lives, took.Round(time.Millisecond), reloads, cpu)
	// A burst of 3 that goes in and comes out again, and one more each second.
	if most := 2*3 + int(took/time.Second) + 1; reloads > most {
		t.Errorf("%d reloads in %s, want %d at most", reloads, took, most)
	}
	if cpu > took/2 {
		t.Errorf("it cost %s of CPU time in %s", cpu, took)
	}
	end()
	sameNginx(t, s, nginx)

	// When it settles it is served like everybody else.
	_, err = s.Docker.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
	must(t, err)
	answers(t, s, "b.test", "flapper 1")
	shows(t, s, "nginx is as wanted", func(st report.Status) bool { return st.Nginx.Settled })
}

// spent is the CPU time of a process and of the children that it has buried, by
// proc_pid_stat(5), where a tick is 10 ms.
func spent(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	var ticks int
	for _, word := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(word)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
