package apply

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// BenchmarkConfiguration is what nginx takes to read the configuration of so many
// sites, which it does in each test and once more in each reload: CPU time, which
// a busy machine hardly changes, and page faults.
func BenchmarkConfiguration(b *testing.B) {
	for _, c := range []struct {
		name  string
		sites int
		edit  edit
	}{
		{"no site", 0, nil},
		{"1 site", 1, nil},
		{"20 sites", 20, nil},
		{"20 TLS sites", 20, secured(b)},
		{"200 TLS sites", 200, secured(b)},
		{"200 TLS sites, one certificate", 200, securedBy(writePair(b, "*.test"))},
		{"200 TLS sites with HSTS", 200, func(i int, s *nestedSite) {
			securedBy(writePair(b, s.Host))(i, s)
			s.Edge.HSTS = fmt.Sprintf("max-age=%d", 1000+i)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newRig(b)
			tree := manySites(b, g, c.sites, c.edit)
			st := &store{dir: g.o.StateDir}
			if err := st.prepare(g.o.RunDir, g.o.LogDir); err != nil {
				b.Fatal(err)
			}
			if err := st.stage(tree); err != nil {
				b.Fatal(err)
			}
			run := g.o.runtime(b)
			var before, after syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_CHILDREN, &before)
			for b.Loop() {
				output, exit, err := run.Command(b.Context(), "-t", "-c", filepath.Join(st.stagingPath(), nginx.MainFile), "-p", st.dir, "-e", "stderr")
				if err != nil || exit != 0 {
					b.Fatal(output, err)
				}
			}
			syscall.Getrusage(syscall.RUSAGE_CHILDREN, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/1e6/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(after.Minflt-before.Minflt)/float64(b.N), "faults/op")
		})
	}
}

// edit changes the site of a number.
type edit func(i int, s *nestedSite)

// manySites is a tree of n sites.
func manySites(t testing.TB, g *rig, n int, edits ...edit) nginx.Tree {
	t.Helper()
	var sites []nestedSite
	for i := range n {
		s := site(fmt.Sprintf("h%03d.test", i), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i)))
		for _, e := range edits {
			if e != nil {
				e(i, &s)
			}
		}
		sites = append(sites, s)
	}
	return g.tree(sites...)
}

// secured gives each site a certificate of its own.
func secured(t testing.TB) edit {
	return func(i int, s *nestedSite) { securedBy(writePair(t, s.Host))(i, s) }
}

func securedBy(p certs.Pair) edit {
	return func(_ int, s *nestedSite) { *s = withTLS(*s, p, route.Redirect) }
}
