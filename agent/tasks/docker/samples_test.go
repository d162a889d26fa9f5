package docker

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestDocsShowASilentEngine(t *testing.T) {
	j, e := doctest.NewJournal(t), newEngine(t)
	// Errors are cut, so the socket has a name that is as long as the real one.
	const socket = "/var/run/docker.sock"
	dir := fmt.Sprintf("/tmp/n%05d", os.Getpid()%100000)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e.socket = dir + "/doc.sock"
	for i := range 6 {
		e.set(fmt.Sprint(i), "running")
	}
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket, Log: j.Log, Resync: time.Hour})
	until("the list", func(c tasks.Containers) bool { return c.Complete && len(c.List) == 6 })
	e.stop()
	// What the first error is depends on what is under way.
	line := j.Await("docker-silent", "failed to connect")
	doctest.Logged(t, "docker-silent", line, e.socket, socket)
}
