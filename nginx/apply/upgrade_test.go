package apply

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// older writes a generation as versions of nagaya before this one did, without a manifest,
// and has nginx serve it.
func (r *rig) older(tree nginx.Tree, gen string) (pid int) {
	r.t.Helper()
	s := &store{dir: r.o.StateDir}
	if err := s.prepare(r.o.RunDir, r.o.LogDir); err != nil {
		r.t.Fatal(err)
	}
	for _, dir := range nginx.TreeDirs {
		if err := os.MkdirAll(filepath.Join(s.generation(gen), dir), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	tree.Generation = gen
	for _, f := range tree.Files() {
		if f.Path != nginx.ManifestFile {
			write(r.t, filepath.Join(s.generation(gen), f.Path), f.Text)
		}
	}
	if err := s.swap(gen); err != nil {
		r.t.Fatal(err)
	}
	pid, err := r.o.runtime(r.t).Start(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	client := statusClient(nginx.Socket(r.o.RunDir))
	eventually(r.t, "the older generation", func() bool { return client.generation(r.t.Context()) == gen })
	return pid
}

// An nginx that serves a generation of a version before this one is adopted without a reload.
// The first wanted tree replaces that generation, or only adds the manifest if its text is
// the same. No request is lost.
func TestAdoptGenerationWithoutManifest(t *testing.T) {
	const other = "0123456789abcdef"
	for _, row := range []struct {
		name    string
		gen     func(served nginx.Tree) string
		reloads int // by the first wanted tree
	}{
		{"with another text", func(nginx.Tree) string { return other }, 1},
		{"with the same text", func(served nginx.Tree) string { return served.Generation }, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t)
			tree := r.tree(site("a.test", backend(t, "one")))
			pid := r.older(tree, row.gen(tree))

			over, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for n := 0; ; n++ {
					if a := r.get(r.http("a.test", "/")); a.status != 200 || a.body != "one" {
						t.Errorf("request %d: %d %q", n, a.status, a.body)
					}
					select {
					case <-over:
						return
					default:
					}
				}
			}()
			r.run()
			s := r.await("adoption", func(s nginx.Status) bool { return s.Running })
			if s.PID != pid || s.Generation != row.gen(tree) || s.Reloads != 0 || len(s.Problems) > 0 {
				t.Errorf("status %+v, want process %d with its generation", s, pid)
			}
			s = r.serve(tree)
			if s.PID != pid || s.Generation != tree.Generation || s.Reloads != row.reloads || s.Restored != 0 || len(s.Problems) > 0 {
				t.Errorf("status %+v, want process %d and %d reloads", s, pid, row.reloads)
			}
			close(over)
			<-ended

			st := &store{dir: r.o.StateDir}
			if back, err := st.read(st.current()); err != nil || back.Generation != tree.Generation {
				t.Errorf("read back %s, %v", back.Generation, err)
			}
			r.crash()
			r.run()
			if s := r.serve(tree); s.PID != pid || s.Reloads != 0 || s.Restored != 0 {
				t.Errorf("adopted again: status %+v", s)
			}
		})
	}
}

// An nginx that has ended starts with a generation of a version before this one.
func TestResumeGenerationWithoutManifest(t *testing.T) {
	r := newRig(t)
	r.older(r.tree(site("a.test", backend(t, "one"))), "0123456789abcdef")
	r.stopNginx()
	r.run()
	if s := r.await("start", func(s nginx.Status) bool { return s.Running }); s.Generation != "0123456789abcdef" {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	r.serve(r.tree(site("a.test", backend(t, "two"))))
	r.expect(r.http("a.test", "/"), 200, "two")
}
