package apply

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// sampled is a rig that writes into a journal, and the words of the documents for what it has.
func sampled(t *testing.T) (r *rig, j *doctest.Journal, words []string) {
	t.Helper()
	r, j = newRig(t), doctest.NewJournal(t)
	r.o.Log = j.Log
	return r, j, []string{
		r.settings.SnippetDir, "/etc/nagaya/nginx", r.o.StateDir, "/var/lib/nagaya/nginx",
		fmt.Sprint(r.settings.HTTPPort), "80",
	}
}

func TestDocsShowAReload(t *testing.T) {
	r, j, words := sampled(t)
	r.run()
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	r.serve(r.tree(site("shop.example.com", backend(t, "two"))))
	doctest.Logged(t, "nginx-reloaded", j.Await("nginx-reloaded"), words...)
}

func TestDocsShowWhatNginxRefuses(t *testing.T) {
	r, j, words := sampled(t)
	r.run()
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	r.put("site.d/shop.example.com.conf", "proxy_set_header X-Shop;\n")
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	doctest.Logged(t, "site-refused", j.Await("site-refused"), words...)

	r.put("site.d/shop.example.com.conf", "")
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	r.put("http.d/extra.conf", "gzip on;\nprox_pass x;\n")
	r.serve(r.tree(site("shop.example.com", backend(t, "two"))))
	doctest.Logged(t, "snippet-refused", j.Await("snippet-refused"), words...)
}

func TestDocsShowAnNginxThatEnds(t *testing.T) {
	r, j, words := sampled(t)
	r.run()
	s := r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	doctest.Logged(t, "nginx-ended", j.Await("nginx-ended"), words...)
}

func TestDocsShowAPortThatIsInUse(t *testing.T) {
	r, _, words := sampled(t)
	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.run()
	r.wanted.Put(r.tree(site("shop.example.com", backend(t, "one"))))
	s := r.await("refusal", func(s nginx.Status) bool { return hasProblem(s, "port-in-use") })
	p := s.Problems[0] // here this test holds it, elsewhere most often the distribution's nginx
	p.Text = regexp.MustCompile(`process \d+ "[^"]*"`).ReplaceAllString(p.Text, `process 431 "nginx: master process /usr/sbin/nginx"`)
	doctest.Logged(t, "port-in-use", doctest.Problem(t, p), words...)
}

func TestDocsShowFilesThatAreRestored(t *testing.T) {
	r, j, words := sampled(t)
	r.run()
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	write(t, filepath.Join(r.o.StateDir, "current", nginx.MainFile), "# mine\n")
	doctest.Logged(t, "files-restored", j.Await("files-restored"), words...)
}

func TestDocsShowADiskThatIsFull(t *testing.T) {
	testenv.NeedRoot(t)
	r, _, words := sampled(t)
	r.onSmallDisk(t)
	r.run()
	r.serve(r.tree(site("shop.example.com", backend(t, "one"))))
	fill(t, filepath.Join(r.o.StateDir, "ballast"))
	r.wanted.Put(r.tree(site("shop.example.com", backend(t, "two"))))
	s := r.await("trouble", func(s nginx.Status) bool { return hasProblem(s, "disk-full") })
	doctest.Logged(t, "disk-full", doctest.Problem(t, s.Problems[0]), words...)
}
