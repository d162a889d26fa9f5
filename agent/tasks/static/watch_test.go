package static

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

var equalAddrs = cmpopts.EquateComparable(netip.Addr{})

func TestParse(t *testing.T) {
	got, err := parse("x.yaml", []byte(`
# what runs elsewhere
legacy:
  to: [10.0.0.5:8080, "[fd00::6]:81"]
  host: [a.example.com, b.example.com]
  strip-prefix: true
  ssh.listen: tcp:2222
db: {to: 127.0.0.1:5432, listen: "tcp:5432"}
`))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{"nagaya.host": "a.example.com,b.example.com", "nagaya.strip-prefix": "true", "nagaya.ssh.listen": "tcp:2222"}
	with := func(port string) map[string]string {
		m := map[string]string{"nagaya.port": port}
		for k, v := range words {
			m[k] = v
		}
		return m
	}
	want := []tasks.Container{
		{Name: "legacy", Origin: tasks.File, File: "x.yaml", Labels: with("8080"), State: tasks.Running, Network: tasks.Direct, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}},
		{Name: "legacy", Origin: tasks.File, File: "x.yaml", Labels: with("81"), State: tasks.Running, Network: tasks.Direct, Addrs: []netip.Addr{netip.MustParseAddr("fd00::6")}},
		{Name: "db", Origin: tasks.File, File: "x.yaml", Labels: map[string]string{"nagaya.port": "5432", "nagaya.listen": "tcp:5432"}, State: tasks.Running, Network: tasks.Direct, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}
	if d := cmp.Diff(want, got, equalAddrs, cmpopts.IgnoreFields(tasks.Container{}, "ID")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got[0].ID == got[1].ID || !strings.HasPrefix(got[0].ID, "static-") {
		t.Errorf("ids %q and %q", got[0].ID, got[1].ID)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"no address", "a: {host: a.test}", "line 1: a has no to"},
		{"a name for an address", "a:\n  to: db.internal:80\n", `line 2: "db.internal:80" is not an address`},
		{"port 0", "a: {to: '10.0.0.1:0'}", "is not an address"},
		{"a list at the top", "- a", "line 1: not a mapping"},
		{"twice", "a: {to: '10.0.0.1:1'}\na: {to: '10.0.0.1:2'}\n", "already"},
		{"a word that is no label", "a: {to: '10.0.0.1:1', 'host ; x': a}", "has no meaning here"},
		{"a list that is too long", "a: {to: '10.0.0.1:1', host: a.test, allow: [" + strings.Repeat("10.0.0.0/8,", 1000) + "10.0.0.0/8]}", "longer than 8192 bytes"},
		{"a port beside the address", "a: {to: '10.0.0.1:1', port: 3}", `"port" has no meaning here`},
		{"depth", "a: {to: '10.0.0.1:1', host: {b: c}}", "neither a plain value nor a list"},
		{"not YAML", "a: [", "not YAML"},
		{"two documents", "a: {to: '10.0.0.1:1'}\n---\nb: {to: '10.0.0.1:1'}\n", "a second document"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := parse("x.yaml", []byte(row.text))
			if err == nil || !strings.Contains(err.Error(), row.want) || len(got) > 0 {
				t.Errorf("%d containers, error %v; want %q", len(got), err, row.want)
			}
		})
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		if got, err := parse("x.yaml", []byte(empty)); err != nil || len(got) > 0 {
			t.Errorf("%q: %v, %v", empty, got, err)
		}
	}
}

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "routes.d")
	got := make(chan tasks.Containers, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(t.Context(), Options{Dir: dir, Recheck: 50 * time.Millisecond, Settle: time.Millisecond}, func(v tasks.Containers) { got <- v })
	}()
	until := func(what string, is func(tasks.Containers) bool) tasks.Containers {
		t.Helper()
		late := time.After(20 * time.Second)
		for {
			select {
			case v := <-got:
				if !v.Complete {
					t.Errorf("%s: %+v is not complete", what, v)
				}
				if is(v) {
					return v
				}
			case <-late:
				t.Fatalf("waited for %s", what)
			}
		}
	}
	names := func(list ...string) func(tasks.Containers) bool {
		return func(v tasks.Containers) bool {
			var have []string
			for _, c := range v.List {
				have = append(have, c.Name)
			}
			return cmp.Equal(list, have, cmpopts.EquateEmpty())
		}
	}
	write := func(name, text string) {
		t.Helper()
		next := filepath.Join(dir, ".next") // as a whole: an empty file would be one that was read
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o644), os.Rename(next, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	until("a directory that is not there", names())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write("a.yaml", "one: {to: '10.0.0.1:1'}")
	until("a file", names("one"))
	write("b.yml", "two: {to: '10.0.0.1:2'}")
	write("c.txt", "three: {to: '10.0.0.1:3'}")
	until("a second file", names("one", "two"))
	write("a.yaml", "one: {")
	broken := until("a file that is broken keeps what stood in it", func(v tasks.Containers) bool { return len(v.Problems) == 1 && names("one", "two")(v) })
	if p := broken.Problems[0]; p.Code != "routes-file-invalid" || !strings.Contains(p.Hint, "stays in force") {
		t.Errorf("problem %+v", p)
	}
	write("a.yaml", strings.Repeat("#", maxFile+1))
	until("a file that is too large", func(v tasks.Containers) bool {
		return len(v.Problems) == 1 && strings.Contains(v.Problems[0].Text, "larger than") && names("one", "two")(v)
	})
	if err := os.Rename(filepath.Join(dir, "b.yml"), filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	until("a file in another's place", func(v tasks.Containers) bool { return len(v.Problems) == 0 && names("two")(v) })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	until("nothing", names())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: {to: '10.0.0.1:1', host: a.test}"))
	f.Add([]byte("a:\n  to:\n  - 10.0.0.1:1\n  host: x\nb: null\n"))
	f.Add([]byte("? [a]\n: b"))
	f.Add([]byte("a: &x {to: '10.0.0.1:1'}\nb: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parse("x.yaml", text)
		if err != nil && len(got) > 0 {
			t.Errorf("containers beside the error %v", err)
		}
		for _, c := range got {
			if !nameForm.MatchString(c.Name) || len(c.Addrs) != 1 || c.Addrs[0].Zone() != "" || c.Labels["nagaya.port"] == "" {
				t.Errorf("a container that cannot be: %+v", c)
			}
		}
	})
}
