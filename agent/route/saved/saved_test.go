package saved

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// tableOf has one site of a family.
func tableOf(family string, complete bool) route.Table {
	s := route.Site{Host: "a.test", Family: family, Locations: []route.Location{{Path: "/"}}}
	return route.Table{
		Complete: complete, Shape: route.Shape{Sites: []route.Site{s}},
		Pools: route.Pools{s.PoolKey(s.Locations[0]): {Servers: []route.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1, Container: "c"}}}},
	}
}

func TestTheHolderIsKnownAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), FileName)
		log := slog.New(slog.DiscardHandler)
		if got := Read(file, log); got.Sites != nil {
			t.Errorf("without a file: %+v", got)
		}
		tables := make(chan route.Table, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, file, log, tables) }()
		put := func(table route.Table, want string, when string) {
			t.Helper()
			tables <- table
			synctest.Wait()
			got := Read(file, log)
			if d := cmp.Diff(tableOf(want, false), got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Errorf("%s: %s", when, d)
			}
		}
		put(tableOf("owner", true), "owner", "a table")
		put(tableOf("thief", false), "owner", "one that is not complete")
		put(tableOf("heir", true), "heir", "the next one")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Read(file, log); got.Sites != nil {
			t.Errorf("with half a file: %+v", got)
		}
	})
}

// A table that cannot be saved is saved as soon as it can be, also when no other comes.
func TestATableIsSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		file := filepath.Join(dir, FileName)
		var logged bytes.Buffer
		log := slog.New(slog.NewTextHandler(&logged, nil))
		tables := make(chan route.Table, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, file, log, tables) }()
		tables <- tableOf("owner", true)
		time.Sleep(10 * time.Minute) // virtual: in a bubble
		synctest.Wait()
		if n := strings.Count(logged.String(), "could not be saved"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, &logged)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := Read(file, log); len(got.Sites) != 1 {
			t.Errorf("saved %+v", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
