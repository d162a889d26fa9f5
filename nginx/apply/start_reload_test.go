package apply

import "testing"

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
