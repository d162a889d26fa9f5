package snippets

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSnippets(t *testing.T) {
	dir := t.TempDir()
	if got, err := listSnippets(Options{Own: dir}); err != nil || len(got) != 0 {
		t.Errorf("an empty directory: %v, %v", got, err)
	}
	for _, d := range []string{"http.d", "site.d", "site.d/dir.conf"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"http.d/b.conf", "http.d/a.conf", "http.d/.a.conf", "http.d/a.conf~", "site.d/x.test.conf"} {
		write(t, filepath.Join(dir, f), f)
	}
	got, err := listSnippets(Options{Own: dir})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"http.d/a.conf", "http.d/b.conf", "site.d/x.test.conf"}, names); diff != "" {
		t.Error(diff)
	}
	write(t, filepath.Join(dir, "http.d/a.conf"), "changed")
	again, err := listSnippets(Options{Own: dir})
	if err != nil || again[0].Fingerprint == got[0].Fingerprint || again[1].Fingerprint != got[1].Fingerprint {
		t.Errorf("after a change: %v, %v", again, err)
	}
}

// A file that cannot be read costs itself: what is put for it names the cause, nginx refuses
// that, and all others are read.
func TestUnreadableSnippets(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, "http.d", name) }
	if err := os.MkdirAll(in("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, in("big.conf"), strings.Repeat("#", maxSnippetSize+1))
	write(t, in("good.conf"), "gzip on;")
	for _, err := range []error{os.Symlink("/none", in("dangling.conf")), os.Symlink("dir", in("to-dir.conf")), syscall.Mkfifo(in("pipe.conf"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxTotal / maxSnippetSize {
		write(t, in(fmt.Sprintf("x%d.conf", i)), strings.Repeat("#", maxSnippetSize-1))
	}
	all, err := listSnippets(Options{Own: dir})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, sn := range all {
		if base := filepath.Base(sn.Name); sn.Unreadable {
			got[base] = sn.Text
			if !sn.MayRestrict() || sn.Path != in(base) || sn.Fingerprint == "" {
				t.Errorf("%+v", sn)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{
		"big.conf":      "\"the file cannot be read: is larger than 1048576 bytes\";\n",
		"dangling.conf": "\"the file cannot be read: no such file or directory\";\n",
		"pipe.conf":     "\"the file cannot be read: is not a regular file\";\n",
		"x7.conf":       "\"the file cannot be read: with the files before it, it is larger than 8388608 bytes\";\n",
	}, got); diff != "" || len(all) != 12 {
		t.Errorf("%d files: %s", len(all), diff)
	}
}

// A change is put once, and nothing is put while a directory cannot be read.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		own, passwords := filepath.Join(dir, "own"), filepath.Join(dir, "passwords")
		if err := os.MkdirAll(filepath.Join(own, "site.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		var got []nginx.OperatorFiles
		var wrong []problem.Problem
		ctx, cancel := context.WithCancel(t.Context())
		ended, now := make(chan error, 1), make(chan struct{})
		go func() {
			ended <- Watch(ctx, Options{Own: own, Passwords: passwords, Every: time.Second, Now: now, Problems: func(p []problem.Problem) { wrong = p }}, func(f nginx.OperatorFiles) { got = append(got, f) })
		}()
		pass := func(want int, when string) {
			t.Helper()
			time.Sleep(3 * time.Second) // virtual: in a bubble
			synctest.Wait()
			if len(got) != want {
				t.Fatalf("%s: put %d times, want %d", when, len(got), want)
			}
		}
		pass(1, "at first")
		if f := got[0]; len(f.Snippets) != 0 || f.Passwords == nil || len(f.Passwords) != 0 {
			t.Errorf("nothing there: %+v", f)
		}
		write(t, filepath.Join(own, "site.d", "a.test.conf"), "# one")
		pass(2, "a snippet more")
		if err := os.MkdirAll(passwords, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(passwords, "a.test"), "a:b")
		pass(3, "a password file more")
		if f := got[2]; !slices.Equal(f.Passwords, []string{"a.test"}) || len(f.Snippets) != 1 {
			t.Errorf("put %+v", f)
		}
		if err := os.Rename(filepath.Join(own, "site.d"), filepath.Join(own, "x")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(own, "site.d"), "a file instead of the directory")
		pass(3, "while it cannot be read")
		if len(wrong) != 1 || wrong[0].Code != "snippets-unlisted" || !strings.Contains(wrong[0].Text, own) {
			t.Errorf("problems %+v", wrong)
		}
		// At once where that is asked for.
		if err := os.Remove(filepath.Join(own, "site.d")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		now <- struct{}{}
		synctest.Wait()
		if len(got) != 4 || len(wrong) > 0 || time.Since(began) > 0 {
			t.Errorf("put %d times after %v", len(got), time.Since(began))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
