package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

const host = simaws.DefaultInstance

// place is where stores are, with a way to it past them.
type place struct {
	open func() *Store
	put  func(name string, body []byte) // nil removes it
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, o simaws.Options) *simaws.Cloud {
	t.Helper()
	w := simaws.New(o)
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// clientOn makes the client as the agent makes it: endpoints and credentials are found as on an instance.
func clientOn(t *testing.T, c *simaws.Cloud) Client {
	t.Helper()
	for _, line := range os.Environ() {
		if k, _, _ := strings.Cut(line, "="); strings.HasPrefix(k, "AWS_") {
			t.Setenv(k, "")
			_ = os.Unsetenv(k)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range c.Env(host) {
		t.Setenv(k, v)
	}
	clients, err := awsclient.New(t.Context())
	must(t, err)
	t.Cleanup(clients.DropConnections)
	return clients.S3()
}

// places are the kinds of stores: all that is asked of one holds for each.
func places(t *testing.T) map[string]place {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	cloud := serve(t, simaws.Options{})
	must(t, cloud.AddBucket(simaws.BucketSpec{Name: "paged", PageSize: 700}))
	client := clientOn(t, cloud)
	return map[string]place{
		"directory": {
			func() *Store { return Open(Options{Setting: root}) },
			func(name string, body []byte) {
				path := filepath.Join(root, name)
				if body == nil {
					must(t, os.Remove(path))
					return
				}
				must(t, os.MkdirAll(filepath.Dir(path), 0o700))
				must(t, os.WriteFile(path, body, 0o600))
			},
		},
		"bucket": {
			func() *Store { return Open(Options{Setting: "s3://paged/some/where/", S3: client}) },
			func(name string, body []byte) { must(t, cloud.SetObject("paged", "some/where/"+name, body)) },
		},
	}
}

func eachPlace(t *testing.T, test func(t *testing.T, p place)) {
	for name, p := range places(t) {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// A write takes effect only where the object is what the writer saw.
func TestCompareAndSwap(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		s, ctx := p.open(), t.Context()
		all, err := s.List(ctx, "")
		if len(all) != 0 || err != nil {
			t.Fatalf("an empty store: %v, %v", all, err)
		}
		if _, _, err := s.Get(ctx, "certs/a.json"); !errors.Is(err, certs.ErrNotFound) {
			t.Errorf("an object that is not there: %v", err)
		}
		first, err := s.Put(ctx, "certs/a.json", []byte("1"), "")
		must(t, err)
		second, err := s.Put(ctx, "certs/a.json", []byte("2"), first)
		must(t, err)
		for name, row := range map[string]struct{ name, version string }{
			"one that is there, as a new one": {"certs/a.json", ""},
			"one that has changed":            {"certs/a.json", first},
			"one that is not there":           {"certs/none.json", second},
		} {
			if _, err := s.Put(ctx, row.name, []byte("3"), row.version); !errors.Is(err, certs.ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		body, version, err := p.open().Get(ctx, "certs/a.json")
		if string(body) != "2" || version != second || err != nil {
			t.Errorf("%q, version %s, want %s; %v", body, version, second, err)
		}
		other, err := s.Put(ctx, "orders/A_b-1.RSA2048.json", bytes.Repeat([]byte("x"), certs.MaxObject), "")
		must(t, err)
		for name, body := range map[string]string{"certs/.a.json.new": "x", "certs/a b": "x", "deep/er/a": "x", "top": "x", "UPPER/a": "x"} {
			p.put(name, []byte(body)) // a stranger's
		}
		for prefix, want := range map[string]map[string]string{
			"":        {"certs/a.json": second, "orders/A_b-1.RSA2048.json": other},
			"certs/":  {"certs/a.json": second},
			"orders/": {"orders/A_b-1.RSA2048.json": other},
			"none/":   {},
		} {
			all, err := s.List(ctx, prefix)
			must(t, err)
			if d := cmp.Diff(want, all); d != "" {
				t.Errorf("prefix %q: %s", prefix, d)
			}
		}
		must(t, s.Check(ctx))
		must(t, s.Check(ctx))
	})
}

func TestNamesAndSizes(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		s, ctx := p.open(), t.Context()
		for _, name := range []string{"", "a", "certs/", "/certs/a", "certs/../a", "certs/.a", "../a/b", "certs/a/b", "certs/a\n", "certs/é", "certs/" + strings.Repeat("a", 202)} {
			if _, err := s.Put(ctx, name, []byte("x"), ""); err == nil {
				t.Errorf("%q was written", name)
			}
			if _, _, err := s.Get(ctx, name); err == nil || errors.Is(err, certs.ErrNotFound) {
				t.Errorf("%q was read: %v", name, err)
			}
		}
		if _, err := s.Put(ctx, "certs/a", make([]byte, certs.MaxObject+1), ""); err == nil {
			t.Error("an object that is too large was written")
		}
		// A stranger's is known, and can be replaced.
		p.put("certs/huge", make([]byte, 900<<10))
		p.put("certs/small", []byte("torn {"))
		all, err := s.List(ctx, "")
		must(t, err)
		body, version, err := s.Get(ctx, "certs/huge")
		if !errors.Is(err, certs.ErrUnusable) || body != nil || version == "" || version != all["certs/huge"] {
			t.Errorf("an object that is too large: %d bytes, version %q of %v, %v", len(body), version, all, err)
		}
		if body, _, err := s.Get(ctx, "certs/small"); string(body) != "torn {" || err != nil {
			t.Errorf("the object beside it: %q, %v", body, err)
		}
		_, err = s.Put(ctx, "certs/huge", []byte("whole"), version)
		must(t, err)
		if body, _, err := s.Get(ctx, "certs/huge"); string(body) != "whole" || err != nil {
			t.Errorf("the object that was replaced: %q, %v", body, err)
		}
	})
}

func TestTooManyObjects(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		for n := range certs.MaxObjects {
			p.put(fmt.Sprintf("certs/%05d", n), []byte(strconv.Itoa(n)))
		}
		all, err := p.open().List(t.Context(), "")
		if len(all) != certs.MaxObjects || err != nil {
			t.Fatalf("%d objects, %v", len(all), err)
		}
		p.put("certs/one-more", []byte("x"))
		all, err = p.open().List(t.Context(), "")
		if _, ok := errors.AsType[*certs.StoreError](err); !ok || all != nil {
			t.Errorf("one more: %d objects, %v", len(all), err)
		}
	})
}

// Of many writers with an agent's habit (read, change, write; again after a conflict) each change is kept,
// and whoever is told of a success has written.
func TestManyWriters(t *testing.T) {
	const writers, changes = 6, 12
	eachPlace(t, func(t *testing.T, p place) {
		var all sync.WaitGroup
		for w := range writers {
			s, rnd := p.open(), rand.New(rand.NewPCG(uint64(w), 1))
			all.Go(func() {
				for n := 0; n < changes; {
					name := "certs/" + strconv.Itoa(rnd.IntN(2))
					body, version, err := s.Get(t.Context(), name)
					if err != nil && !errors.Is(err, certs.ErrNotFound) {
						t.Error(err)
						return
					}
					_, err = s.Put(t.Context(), name, fmt.Appendf(body, "%d-%d ", w, n), version)
					switch {
					case err == nil:
						n++
					case !errors.Is(err, certs.ErrConflict):
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		var got []string
		for name := range maps.Keys(map[string]bool{"certs/0": true, "certs/1": true}) {
			body, _, err := p.open().Get(t.Context(), name)
			must(t, err)
			got = append(got, strings.Fields(string(body))...)
		}
		slices.Sort(got)
		if len(got) != writers*changes || len(slices.Compact(got)) != writers*changes {
			t.Errorf("%d changes are kept, want %d", len(got), writers*changes)
		}
	})
}

// careless is a store that ignores the conditions of writes.
type careless struct{ backend }

func (c careless) put(ctx context.Context, name string, body []byte, _ string) (string, error) {
	_, version, _ := c.get(ctx, name)
	return c.backend.put(ctx, name, body, version)
}

func TestCheckFindsAStoreThatIgnoresConditions(t *testing.T) {
	s := &Store{careless{newDirectory(t.TempDir())}}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("%v", err)
	}
}
