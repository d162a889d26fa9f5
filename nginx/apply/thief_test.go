package apply

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// thief takes a port when nginx is told to load what listens on it, and gives it back as soon as
// nginx has given up, so that no look before or after a reload sees it. blind is true where no
// look sees anything.
type thief struct {
	Runtime
	dirs  nginx.Dirs
	port  uint16
	blind bool
	times int // that nginx was told to
}

func (f *thief) Find(ctx context.Context) nginx.Instance {
	i := f.Runtime.Find(ctx)
	if f.blind {
		i.Net = ""
	}
	return i
}

func (f *thief) Signal(ctx context.Context, pid int, s nginx.Signal) error {
	asks := false
	files, _ := filepath.Glob(filepath.Join(f.dirs.State, nginx.CurrentLink, "*", "*.conf"))
	for _, file := range files {
		b, _ := os.ReadFile(file)
		asks = asks || strings.Contains(string(b), fmt.Sprintf(":%d", f.port))
	}
	if s == nginx.Reload && asks {
		f.times++
		gaveUp := func() int {
			b, _ := os.ReadFile(nginx.ErrorLog(f.dirs.Log))
			return strings.Count(string(b), "still could not bind()")
		}
		before := gaveUp()
		if l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", f.port)); err == nil {
			go func() {
				defer l.Close()
				for deadline := time.Now().Add(time.Minute); gaveUp() == before && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
			}()
		}
	}
	return f.Runtime.Signal(ctx, pid, s)
}

// A family whose port another process takes again and again, only while nginx would bind it, has
// nginx try once: others wait for that alone, whatever the family changes.
func TestFaultPortTakenDuringReloads(t *testing.T) {
	t.Parallel()
	for _, blind := range []bool{false, true} {
		t.Run(fmt.Sprint("blind ", blind), func(t *testing.T) {
			r := newRig(t)
			stream := nestedStream{Listen: route.Listen{Protocol: route.TCP, Port: freePort(t)}, Family: "evil", Pool: pool(lines(t, "tcp"))}
			r.o.thief = &thief{port: stream.Listen.Port, blind: blind}
			r.run()
			sites := []nestedSite{site("a.test", backend(t, "one"))}
			r.serve(r.tree(sites...))
			for i := range 3 {
				host := fmt.Sprintf("b%d.test", i)
				sites = append(sites, site(host, backend(t, host)))
				stream.Pool = pool(lines(t, "tcp"))
				s := r.serve(r.table(nestedTable{Sites: sites, Streams: []nestedStream{stream}}))
				r.expect(r.http(host, "/"), 200, host)
				if len(s.Quarantined) != 1 || s.Quarantined[0].Host != stream.Listen.String() || !strings.Contains(s.Quarantined[0].Reason, "is held by") {
					t.Errorf("quarantined %+v", s.Quarantined)
				}
			}
			if r.o.thief.times != 1 {
				t.Errorf("nginx was told %d times to listen on the port", r.o.thief.times)
			}
		})
	}
}
