package stage

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// slow is the patience for what nagaya does a minute later, on purpose.
const slow = 4 * time.Minute

// left is what is left on the file system of a directory, in bytes.
func left(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs syscall.Statfs_t
	must(t, syscall.Statfs(dir, &fs))
	return fs.Bavail * uint64(fs.Bsize)
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

// askAtLength makes requests of which nginx logs as much as it does of any.
func askAtLength(t *testing.T, s *Stage, requests int) {
	t.Helper()
	c, err := s.Client()
	must(t, err)
	defer c.CloseIdleConnections()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	long := strings.Repeat("x", 1500)
	for range requests {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL("a.test", "/"+long, false), nil)
		must(t, err)
		req.Header.Set("Referer", long)
		req.Header.Set("User-Agent", long)
		resp, err := c.Do(req)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
	}
}

// Clients make nginx log until the disk of the state is full. Routes, certificates and state
// are changed as ever, and when there is space again, requests are logged again.
func TestFaultLogsFillTheDisk(t *testing.T) {
	t.Parallel() // it waits for more than a minute, and no other parallel test uses the engine
	s := newStage(t, Options{Hosts: []string{"a.test", "b.test"}})
	dir, log := s.Path("state"), s.Path("log", "access.log")
	testenv.Need(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=755"))
	t.Cleanup(func() {
		if err := errors.Join(s.StopAgent(), syscall.Unmount(dir, syscall.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Remove(s.Path("log")))
	must(t, os.Mkdir(s.Path("state", "log"), 0o755))
	must(t, os.Symlink(s.Path("state", "log"), s.Path("log")))
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	nginx := settled(t, s).Nginx.PID
	for left(t, dir) > 4096 && !low(t, s) {
		askAtLength(t, s, 250)
	}
	told(t, s, "disk-low", s.Path("log"))
	told(t, s, "disk-low", s.Path("state", "nginx", "temp"))
	settled(t, s)

	// The workers from before may still log: until they have ended.
	must(t, Until(t.Context(), slow, "requests are not logged", func() error {
		before := sizeOf(t, log)
		askAtLength(t, s, 10)
		if now := sizeOf(t, log); now != before {
			return fmt.Errorf("%s has grown from %d to %d bytes", log, before, now)
		}
		return nil
	}))
	run(t, s, service("beta", "1", "b.test"))
	answers(t, s, "b.test", "beta 1")
	for _, end := range []string{".crt", ".key"} {
		text, err := os.ReadFile(s.Path("certs", "a.test"+end))
		must(t, err)
		swapFile(t, s.Path("certs", "c.test"+end), text)
	}
	until(t, "the new certificate has a copy", func() error {
		_, err := os.Stat(s.Path("state", "nginx", "certs", "c.test"))
		return err
	})
	until(t, "who holds b.test is saved", func() error {
		text, err := os.ReadFile(s.Path("state", "routes.json"))
		if err == nil && !strings.Contains(string(text), "b.test") {
			err = errors.New("it is not in routes.json")
		}
		return err
	})
	told(t, s, "disk-low", s.Path("log"))
	quiet(t, s, "disk-full")

	must(t, os.Truncate(log, 0))
	must(t, Until(t.Context(), slow, "requests are logged again", func() error {
		if askAtLength(t, s, 10); sizeOf(t, log) == 0 {
			return errors.New("the log is empty")
		}
		return nil
	}))
	quiet(t, s, "disk-low")
	answers(t, s, "b.test", "beta 1")
	sameNginx(t, s, nginx)
}

// low reports whether the agent has noticed that the disk is low.
func low(t *testing.T, s *Stage) bool {
	t.Helper()
	st, err := s.Board(t.Context())
	must(t, err)
	return slices.ContainsFunc(st.Problems, func(p problem.Problem) bool { return p.Code == "disk-low" })
}
