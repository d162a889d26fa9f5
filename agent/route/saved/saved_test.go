package saved

import (
	"bytes"
	"context"
	"fmt"
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

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
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

// The words of containers make the table no larger than what is read: else a few of them would have all hosts given away again.
func TestTheLargestTableIsRead(t *testing.T) {
	var table route.Table
	table.Pools = route.Pools{}
	var networks []netip.Prefix
	for n := range 64 {
		a := netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ff00").As16()
		a[15] = byte(n)
		networks = append(networks, netip.PrefixFrom(netip.AddrFrom16(a), 128))
	}
	for n := range 2048 {
		s := route.Site{Host: fmt.Sprintf("%0245d.test", n), Family: "ecs:" + strings.Repeat("f", 255), Plain: route.Serve}
		s.Edge.Allow = networks
		s.Locations = []route.Location{{Path: "/" + strings.Repeat("p", 199), Dest: "/" + strings.Repeat("d", 199), Root: "/" + strings.Repeat("r", 199), Allow: networks, Owner: s.Family}}
		table.Sites = append(table.Sites, s)
		var servers []route.Server
		for i := range 10 {
			servers = append(servers, route.Server{Addr: netip.AddrPortFrom(networks[i].Addr(), 8080), Weight: 1000, Container: strings.Repeat("c", 64), Ref: strings.Repeat("r", 255)})
		}
		table.Pools[s.PoolKey(s.Locations[0])] = route.Pool{Servers: servers}
	}
	file := filepath.Join(t.TempDir(), FileName)
	if err := atomicfile.WriteJSON(file, table); err != nil {
		t.Fatal(err)
	}
	if got := Read(file, slog.New(slog.DiscardHandler)); len(got.Sites) != len(table.Sites) || got.Sites[2047].Family != table.Sites[2047].Family {
		t.Errorf("%d sites were read", len(got.Sites))
	}
}
