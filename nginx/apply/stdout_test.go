package apply

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
)

// logsTo puts a file into the place of this process's stdout or stderr.
func logsTo(t *testing.T, stream **os.File) (read func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	before := *stream
	*stream = f
	t.Cleanup(func() { *stream = before; f.Close() })
	return func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// An nginx that is a daemon logs to this process's stdout, before and after a reload, and its
// errors to this process's stderr.
func TestLogToStdout(t *testing.T) {
	out, errs := logsTo(t, &os.Stdout), logsTo(t, &os.Stderr)
	r := newRig(t)
	r.o.Stdout = true
	r.settings.AccessLog, r.settings.Stderr = runtime.StdoutPath, true
	r.run()
	port := freePort(t)
	r.serve(r.table(nestedTable{Streams: []nestedStream{{Listen: route.Listen{Protocol: route.TCP, Port: port}, Family: "git", Pool: pool(lines(t, "git"))}}}))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	awaitText(t, out, fmt.Sprintf("] TCP %d 200 ", port))
	r.serve(r.tree())
	r.get(r.http("a.test", "/first"))
	r.settings.ShutdownTimeout = time.Second // another generation
	r.serve(r.tree())
	r.get(r.http("a.test", "/second"))
	for _, path := range []string{"/first", "/second"} {
		awaitText(t, out, "GET "+path+" ")
	}
	if pid := r.find(); pid == 0 {
		t.Fatal("nginx does not run")
	}
	// The errors of a start are there too, and the problem has them all the same.
	r.crash()
	r.stopNginx()
	if err := os.WriteFile(filepath.Join(r.o.StateDir, nginx.CurrentLink, nginx.MainFile), []byte("nonsense;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{r.o.StateDir} {
		older, _ := filepath.Glob(filepath.Join(dir, generationsDir, "*", nginx.ManifestFile))
		for _, f := range older {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.run()
	r.await("the reason", func(s nginx.Status) bool { return strings.Contains(s.LastError, "nonsense") })
	awaitText(t, errs, "nonsense")
}

func awaitText(t *testing.T, read func() string, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(read(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not in %q", text, read())
		}
	}
}
