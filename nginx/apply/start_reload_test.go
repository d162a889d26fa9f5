package apply

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// A worker that was still starting when nginx was signalled to reload has the old
// configuration, and accepts connections until it is retired.
func TestReloadRightAfterTheStart(t *testing.T) {
	for range 3 {
		r := newRig(t)
		r.settings.WorkerProcesses = 4
		r.run()
		r.serve(r.tree(site("a.test", backend(t, "one"))))
		r.serve(r.tree(site("a.test", backend(t, "two"))))
		for range 40 {
			if a := r.get(r.http("a.test", "/")); a.body != "two" {
				t.Fatalf("after the reload it answers %d %q", a.status, a.body)
			}
		}
		r.crash()
		r.stopNginx()
	}
}

// interrupted is a Runtime in which the agent is told to end while nginx starts.
type interrupted struct {
	Runtime
	end context.CancelFunc
}

func (i interrupted) Start(ctx context.Context) (int, error) {
	i.end()
	return 0, ctx.Err()
}

// An agent that ends, or takes a new configuration, while nginx starts has no failure to tell.
func TestEndWhileNginxStarts(t *testing.T) {
	r := newRig(t)
	r.run()
	r.serve(r.tree(site("a.test", backend(t, "one"))))
	r.crash()
	r.stopNginx()
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	o := r.o.forRun(t)
	o.Runtime, o.Log = interrupted{o.Runtime, cancel}, slog.New(slog.NewTextHandler(&log, nil))
	if err := Run(ctx, o, newTrees().C(), func(nginx.Status) {}); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", log.String())
	}
}
