package apply

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// A disk that others have filled takes one more generation, in the space of the reserve.
func TestFaultDiskIsFullButForTheReserve(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.onSmallDisk(t)
	r.run()
	r.serve(r.tree(site("a.test", backend(t, "one"))))
	if err := atomicfile.KeepReserve(r.o.StateDir, 256<<10); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(r.o.StateDir, "ballast"))
	if s := r.serve(r.tree(site("a.test", backend(t, "two")))); len(s.Problems) > 0 {
		t.Errorf("problems %+v", s.Problems)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
}

// While little space is left nginx logs no request, and passes a body on before it is whole.
func TestLowSpace(t *testing.T) { each(t, testLowSpace) }

func testLowSpace(t *testing.T, r *rig) {
	begun := make(chan int, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, err := io.ReadFull(req.Body, make([]byte, 100<<10))
		if err == nil {
			begun <- n
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	t.Cleanup(s.Close)
	r.settings.Spaces = nginx.Spaces{Logs: nginx.Space{Dir: r.o.LogDir, Low: true}, Temp: nginx.Space{Dir: r.o.StateDir, Low: true}}
	// The operator's own log goes on, and has the format that nagaya's would have.
	own := filepath.Join(r.settings.SnippetDir, "own.log")
	r.put("site.d/a.test.conf", "access_log "+own+" nagaya;\n")
	tree := render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{site("a.test", addrOf(s))}})
	if len(tree.Problems) != 2 || tree.Problems[0].Code != "disk-low" || tree.Problems[1].Code != "disk-low" {
		t.Errorf("problems %+v", tree.Problems)
	}
	r.run()
	r.serve(tree)

	body, w := io.Pipe()
	go func() {
		io.WriteString(w, strings.Repeat("x", 400<<10))
		select { // the rest comes when the container has a part
		case <-begun:
			io.WriteString(w, strings.Repeat("x", 200<<10))
			w.Close()
		case <-time.After(2 * time.Minute):
			w.CloseWithError(os.ErrDeadlineExceeded)
		}
	}()
	req := r.request("POST", r.http("a.test", "/"), "")
	req.Body, req.ContentLength = body, 600<<10
	c := r.client()
	c.Timeout = 3 * time.Minute
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("the container got nothing before the body was whole: %v", err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || len(got) != 1<<20 || resp.StatusCode != 200 {
		t.Errorf("status %d, %d bytes, %v", resp.StatusCode, len(got), err)
	}
	eventually(t, "a line in the operator's own log", func() bool {
		text, err := os.ReadFile(own)
		return err == nil && strings.Contains(string(text), `"POST / HTTP/1.1" 200`)
	})
	for _, name := range []string{"access.log", "error.log"} {
		text, err := os.ReadFile(filepath.Join(r.o.LogDir, name))
		if err != nil && !missing(err) || len(text) > 0 {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}
