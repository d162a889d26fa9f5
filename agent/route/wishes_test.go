package route_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	requests "github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// ordering is the input of these containers where certificates are ordered.
func ordering(containers ...tasks.Container) Input {
	for i := range containers {
		containers[i].Ports = []tasks.Port{{Container: 80, Protocol: "tcp", Host: 32768 + uint16(i)}}
		containers[i].CreatedAt = containers[i].CreatedAt.Add(time.Duration(i) * time.Second)
	}
	in := input(containers...)
	in.Options.ACME, in.Options.Stream = true, true
	d := expressive()
	d.ACME = certs.Settings{ACME: config.ACME{Email: "ops@a.test", Directories: []string{"https://ca.test/dir", "https://other.test/dir"}, Staging: "https://ca.test/staging"}}
	in.Requests = requests.Requests(containers, d, nginxproxy.Reader(false))
	return in
}

// wishesOf are the wishes of a table, a line each.
func wishesOf(t Table) []string {
	all := []string{}
	for _, w := range t.Wishes {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s %s", w.Host, w.Family, strings.Join(w.Names, "+"), w.KeyType, w.Profile, w.Directory)))
	}
	return all
}

func TestWishes(t *testing.T) {
	for _, row := range []struct {
		name       string
		containers []tasks.Container
		want       []string
		problem    string // a part of the text of the only one
	}{
		{"every host by itself", []tasks.Container{web("a", labels("nagaya.host", "b.example.com a.example.com"))}, []string{"a.example.com ecs:web a.example.com", "b.example.com ecs:web b.example.com"}, ""},
		{"terminate", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "terminate"))}, []string{"a.example.com ecs:web a.example.com"}, ""},
		{"off", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "off"))}, []string{}, ""},
		{"passed through", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough"))}, []string{}, ""},
		{"with a certificate of its own", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.cert", "mine"))}, []string{}, ""},
		{"what has no certificates", []tasks.Container{web("a", labels("nagaya.host", "[2001:db8::1] *.example.com"))}, []string{"*.example.com ecs:web *.example.com"}, ""},
		{"as it is written in DNS", []tasks.Container{web("a", labels("nagaya.host", "Bücher.Example.com. bücher.example.COM"))}, []string{"xn--bcher-kva.example.com ecs:web xn--bcher-kva.example.com"}, ""},
		{"a port with TLS", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com", "nagaya.listen", "tls:8883"))}, []string{"mq.example.com ecs:web mq.example.com"}, ""},
		{"a port without a name", []tasks.Container{web("a", labels("nagaya.listen", "tls:8883"))}, []string{}, "no certificate is there"},
		{"a port for the host of another", []tasks.Container{
			web("a", labels("nagaya.host", "a.example.com")), web("b", of("thief"), labels("nagaya.host", "a.example.com", "nagaya.listen", "tls:8883")),
		}, []string{"a.example.com ecs:web a.example.com"}, "no certificate is there"},
		{"a port below the wildcard of another", []tasks.Container{
			web("a", labels("nagaya.host", "*.example.com")), web("b", of("thief"), labels("nagaya.host", "a.example.com", "nagaya.listen", "tls:8883")),
		}, []string{"*.example.com ecs:web *.example.com"}, "no certificate is there"},
		{"nginx-proxy's words ask for nothing by themselves", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com"))}, []string{}, ""},
		{"one certificate", []tasks.Container{web("a", env("VIRTUAL_HOST", "b.example.com,a.example.com", "LETSENCRYPT_HOST", "b.example.com,a.example.com"))}, []string{"a.example.com ecs:web a.example.com+b.example.com"}, ""},
		{"one certificate each", []tasks.Container{web("a", env("VIRTUAL_HOST", "b.example.com,a.example.com", "ACME_HOST", "b.example.com a.example.com", "LETSENCRYPT_SINGLE_DOMAIN_CERTS", "true"))}, []string{"a.example.com ecs:web a.example.com", "b.example.com ecs:web b.example.com"}, ""},
		{"the newer word", []tasks.Container{web("a", env("VIRTUAL_HOST", "b.example.com,a.example.com", "ACME_HOST", "a.example.com", "LETSENCRYPT_HOST", "b.example.com"))}, []string{"a.example.com ecs:web a.example.com"}, ""},
		{"a part of the hosts", []tasks.Container{web("a", env("VIRTUAL_HOST", "b.example.com,a.example.com", "LETSENCRYPT_HOST", "B.example.com."))}, []string{"b.example.com ecs:web b.example.com"}, ""},
		{"nothing", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", ""))}, []string{}, ""},
		{"hosts of others and of nobody", []tasks.Container{
			web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com,b.example.com,bank.example.com,x.*")),
			web("b", of("other"), env("VIRTUAL_HOST", "b.example.com")),
		}, []string{"a.example.com ecs:web a.example.com"}, "the others are used"},
		{"a name is in one certificate", []tasks.Container{
			web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com,b.example.com")),
			web("b", env("VIRTUAL_HOST", "b.example.com", "LETSENCRYPT_HOST", "b.example.com,c.example.com")),
			web("c", env("VIRTUAL_HOST", "c.example.com")),
		}, []string{"a.example.com ecs:web a.example.com+b.example.com", "c.example.com ecs:web c.example.com"}, ""},
		{"its key, profile and CA", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com", "LETSENCRYPT_KEYSIZE", "4096", "ACME_CERT_PROFILE", "shortlived", "ACME_CA_URI", "https://other.test/dir"))}, []string{"a.example.com ecs:web a.example.com rsa2048 shortlived https://other.test/dir"}, ""},
		{"the CA's staging directory", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com", "LETSENCRYPT_TEST", "true"))}, []string{"a.example.com ecs:web a.example.com   https://ca.test/staging"}, ""},
		{"a test that is unclear", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com", "LETSENCRYPT_TEST", "perhaps"))}, []string{}, "no certificate is ordered for these hosts"},
		{"a CA that is not allowed", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com", "ACME_CA_URI", "https://evil.test/dir"))}, []string{"a.example.com ecs:web a.example.com"}, "not in certs.acme.directory"},
		{"a key that is none", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "LETSENCRYPT_HOST", "a.example.com", "ACME_KEYSIZE", "1"))}, []string{"a.example.com ecs:web a.example.com"}, "certs.acme.key holds"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := Build(ordering(row.containers...))
			if d := cmp.Diff(row.want, wishesOf(got)); d != "" {
				t.Error(d)
			}
			problems := slices.DeleteFunc(got.Problems, func(p problem.Problem) bool { return p.Code == "host-taken" || p.Code == "cert-choice-refused" })
			if len(problems) > 1 || (len(problems) == 1) != (row.problem != "") || row.problem != "" && !strings.Contains(problems[0].Text, row.problem) {
				t.Errorf("problems %+v, want one with %q", problems, row.problem)
			}
			if len(got.Sites) == 0 && len(got.Streams) == 0 && !strings.Contains(row.name, "port") {
				t.Error("nothing is routed")
			}
		})
	}
}

// What a hostile container asks for costs nobody else anything, and is bounded.
func TestWishesOfStrangers(t *testing.T) {
	var hosts, names []string
	for i := range 250 {
		hosts = append(hosts, fmt.Sprintf("h%03d.example.com", i))
	}
	for i := range 300 {
		names = append(names, fmt.Sprintf("h%03d.example.com", i))
	}
	victim := web("v", of("victim"), labels("nagaya.host", "victim.example.com"), age(time.Hour))
	for name, row := range map[string]struct {
		words []string
		sizes []int // of the wishes of the stranger's
	}{
		"250 names":                 {[]string{"VIRTUAL_HOST", strings.Join(hosts, ","), "LETSENCRYPT_HOST", strings.Join(hosts, ",")}, []int{100, 100, 50}},
		"300 names":                 {[]string{"VIRTUAL_HOST", strings.Join(hosts, ","), "LETSENCRYPT_HOST", strings.Join(names, ",")}, nil},
		"a megabyte":                {[]string{"VIRTUAL_HOST", "x.example.com", "LETSENCRYPT_HOST", strings.Repeat("x.example.com,", 80000)}, nil},
		"one long name":             {[]string{"VIRTUAL_HOST", "x.example.com", "LETSENCRYPT_HOST", strings.Repeat("x", 1<<20)}, nil},
		"the name of the victim":    {[]string{"VIRTUAL_HOST", "x.example.com", "LETSENCRYPT_HOST", "victim.example.com,VICTIM.example.com.,*.example.com,example.com"}, nil},
		"the host of the victim":    {[]string{"VIRTUAL_HOST", "victim.example.com", "LETSENCRYPT_HOST", "victim.example.com"}, nil},
		"a directive of nginx":      {[]string{"VIRTUAL_HOST", "x.example.com", "LETSENCRYPT_HOST", "x.example.com;}\nserver{listen 1;", "ACME_CERT_PROFILE", "a\nb", "ACME_CA_URI", "https://x\n\"$(id)"}, nil},
		"another CA":                {[]string{"VIRTUAL_HOST", "x.example.com", "LETSENCRYPT_HOST", "x.example.com", "ACME_CA_URI", "https://169.254.169.254/" + strings.Repeat("a", 5000)}, []int{1}},
		"an address":                {[]string{"VIRTUAL_HOST", "192.0.2.1,[::1]", "LETSENCRYPT_HOST", "[::1]"}, nil},
		"an expression":             {[]string{"VIRTUAL_HOST", "~^x[0-9]+\\.example\\.com$", "LETSENCRYPT_HOST", "~^x[0-9]+\\.example\\.com$,x1.example.com"}, nil},
		"a letter that looks alike": {[]string{"VIRTUAL_HOST", "vіctim.example.com", "LETSENCRYPT_HOST", "vіctim.example.com"}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := web("s", of("stranger"), env(row.words...))
			table := Build(ordering(victim, stranger))
			var sizes []int
			for _, w := range table.Wishes {
				if w.Family == "ecs:stranger" {
					sizes = append(sizes, len(w.Names))
				}
				if slices.Contains(w.Names, "victim.example.com") != (w.Family == "ecs:victim") {
					t.Errorf("%s asks for %q", w.Family, w.Names)
				}
			}
			if d := cmp.Diff(row.sizes, sizes); d != "" {
				t.Error(d)
			}
			if name == "the name of the victim" {
				said := slices.DeleteFunc(slices.Clone(table.Problems), func(p problem.Problem) bool { return p.Code != "cert-choice-refused" })
				if len(said) != 1 || !strings.Contains(said[0].Text, "*.example.com, example.com, victim.example.com") || said[0].Container == "" {
					t.Errorf("what is not ordered is not named once: %+v", table.Problems)
				}
			}
			for _, p := range table.Problems {
				if len(p.Text) > 2000 || strings.ContainsAny(p.Text+p.Hint+p.Subject, "\n\r") {
					t.Errorf("a problem has %d bytes: %.300q", len(p.Text), p.Text)
				}
			}
		})
	}
}

// Wishes stand while the last container of a site is away, and while it is not known what runs here.
func TestWishesStand(t *testing.T) {
	in := ordering(web("a", labels("nagaya.host", "a.example.com")))
	first := Build(in)
	for name, change := range map[string]func(*Input){
		"no container":                      func(in *Input) { in.Snapshot.Containers = nil },
		"nothing known":                     func(in *Input) { in.Snapshot = tasks.Snapshot{} },
		"the same":                          func(*Input) {},
		"after the grace period, no wishes": func(in *Input) { in.Snapshot.Containers, in.Options.Grace = nil, -1 },
	} {
		next := in
		next.Prev = first
		change(&next)
		want := first.Wishes
		if strings.Contains(name, "no wishes") {
			want = nil
		}
		if d := cmp.Diff(want, Build(next).Wishes); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	off := in
	off.Prev, off.Options.ACME = first, false
	if got := Build(off).Wishes; got != nil {
		t.Errorf("with certificates that are not ordered any more: %v", got)
	}
}

// What a site does until its first certificate is there, and that it is not told as a fault.
func TestWaiting(t *testing.T) {
	const a = "a.example.com"
	own := certs.Pair{Name: "a", DNSNames: []string{a}, Fingerprint: "1", NotAfter: noon.Add(time.Hour)}
	proxied := func(kv ...string) edit {
		return env(append([]string{"VIRTUAL_HOST", a, "LETSENCRYPT_HOST", a}, kv...)...)
	}
	had := func(in *Input) {
		in.Certs.Pairs = []certs.Pair{own}
		in.Prev = Build(*in)
		in.Certs.Pairs = nil
	}
	for _, row := range []struct {
		name   string
		change edit
		before func(*Input)
		// want are the certificate and what plain HTTP gets with each way to wait.
		plain, unavailable, signed string
	}{
		{"auto", labels("nagaya.host", a), nil, " serve", " unavailable", "@waiting redirect"},
		{"terminate", labels("nagaya.host", a, "nagaya.tls", "terminate"), nil, " refuse", " unavailable", "@waiting refuse"},
		{"nginx-proxy's words", proxied(), nil, " serve", " unavailable", "@waiting redirect"},
		{"both", proxied("HTTPS_METHOD", "noredirect"), nil, " serve", " serve", "@waiting serve"},
		{"nohttp", proxied("HTTPS_METHOD", "nohttp"), nil, " serve", " unavailable", "@waiting refuse"},
		{"no plain HTTP without one", proxied("ENABLE_HTTP_ON_MISSING_CERT", "false"), nil, " redirect", " unavailable", "@waiting redirect"},
		{"it had HTTPS", labels("nagaya.host", a), had, " refuse", " unavailable", "@waiting redirect"},
		{"nothing is ordered", labels("nagaya.host", a, "nagaya.tls", "off"), nil, " serve", " serve", " serve"},
		{"it has one", labels("nagaya.host", a), func(in *Input) { in.Certs.Issued = []certs.Pair{own} }, "a redirect", "a redirect", "a redirect"},
	} {
		for way, want := range map[string]string{"plain": row.plain, "unavailable": row.unavailable, "self-signed": row.signed} {
			in := ordering(web("a", row.change))
			in.Options.Waiting = way
			in.Certs.Waiting = certs.Pair{Name: "@waiting", CertFile: "/w.pem", KeyFile: "/w.pem", Fingerprint: "w", NotAfter: noon.AddDate(9, 0, 0)}
			// One that is for others, so that HTTPS is wanted here at all.
			in.Certs.Pairs = []certs.Pair{{Name: "other", DNSNames: []string{"x.test"}}}
			if row.before != nil {
				row.before(&in)
			}
			for range 2 { // it goes on as it was
				table := Build(in)
				s := table.Sites[0]
				if got := s.Cert.Name + " " + string(s.Plain); got != want || s.TLS != (s.Cert.Name != "") {
					t.Errorf("%s, %s: %q, TLS %v, want %q", row.name, way, got, s.TLS, want)
				}
				if len(table.Problems) > 0 {
					t.Errorf("%s, %s: %+v", row.name, way, table.Problems)
				}
				if s.Valid != (s.Cert.Name == "a") || s.Waiting != (row.name != "nothing is ordered" && row.name != "it has one") {
					t.Errorf("%s, %s: valid %v, waiting %v", row.name, way, s.Valid, s.Waiting)
				}
				in.Prev = table
			}
			// A site that has waited is no site that had HTTPS.
			in.Options.Waiting, in.Options.ACME = "plain", false
			if s := Build(in).Sites[0]; s.Plain != Serve && strings.HasSuffix(row.plain, " serve") {
				t.Errorf("%s, %s: when nothing is ordered any more, plain HTTP gets %q", row.name, way, s.Plain)
			}
		}
	}
}

// A certificate is expected soon for ten minutes, a restart and a clock that is set back included.
func TestOrdersExpected(t *testing.T) {
	in := ordering(web("a", labels("nagaya.host", "a.example.com")))
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {9 * time.Minute, true}, {-time.Hour, true}, {10*time.Minute - time.Hour, false}, {time.Hour, false}} {
		in.Now = noon.Add(step.after)
		in.Prev = Build(in)
		if in.Prev.OrdersExpected != step.want {
			t.Errorf("after %s: %v", step.after, in.Prev.OrdersExpected)
		}
	}
	in.Options.ACME = false
	if Build(in).OrdersExpected {
		t.Error("something is expected where nothing is ordered")
	}
}

// A certificate counts until it expires, and the table is made again then.
func TestValid(t *testing.T) {
	in := ordering(web("a", labels("nagaya.host", "a.example.com")))
	in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}, NotAfter: noon.Add(time.Hour)}}
	table := Build(in)
	if !table.Sites[0].Valid || !table.Next.Equal(noon.Add(time.Hour)) {
		t.Errorf("valid %v, next %s", table.Sites[0].Valid, table.Next)
	}
	if in.Now = table.Next; Build(in).Sites[0].Valid {
		t.Error("an expired one is valid")
	}
}

// Beside the certificate of a host stands one with a key of the other kind, unless the container names its own.
func TestTwoCertificates(t *testing.T) {
	pair := func(name string, k certs.KeyType) certs.Pair {
		return certs.Pair{Name: name, KeyType: k, CertFile: "/" + name, DNSNames: []string{"a.example.com"}, NotAfter: noon.Add(time.Hour)}
	}
	for change, want := range map[string]string{"": "ec rsa", "ec": "ec ", "rsa": "rsa "} {
		words := []string{"nagaya.host", "a.example.com"}
		if change != "" {
			words = append(words, "nagaya.cert", change)
		}
		in := ordering(web("a", labels(words...)))
		in.Certs.Pairs = []certs.Pair{pair("ec", certs.ECDSA), pair("rsa", certs.RSA)}
		for range 2 { // also when its container is gone
			table := Build(in)
			if s := table.Sites[0]; s.Cert.Name+" "+s.Beside.Name != want || !s.Valid {
				t.Errorf("nagaya.cert=%q: %q and %q, want %q", change, s.Cert.Name, s.Beside.Name, want)
			}
			if names := table.Certificates(); change == "" && !slices.Contains(names, "rsa") {
				t.Errorf("used are %q", names)
			}
			in.Prev, in.Snapshot.Containers = table, nil
		}
	}
}

// Whoever asks for the address itself names no site.
func TestTheCertificateOfTheAddress(t *testing.T) {
	day := func(n int) time.Time { return time.Unix(0, 0).AddDate(0, 0, n) }
	ip := func(name string, until int) certs.Pair {
		return certs.Pair{Name: name, IPs: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, NotAfter: day(until)}
	}
	in := Input{Snapshot: tasks.Snapshot{Complete: true}, Certs: certs.Inventory{
		At: day(10), Complete: true, Pairs: []certs.Pair{{Name: "own", DNSNames: []string{"own.test"}, NotAfter: day(20)}},
		Issued: []certs.Pair{{Name: "host", DNSNames: []string{"a.test"}, NotAfter: day(99)}, ip("expired", 9), ip("older", 12), ip("newer", 14)},
	}}
	for want, o := range map[string]Options{"": {}, "newer": {IP: true}, "own": {IP: true, UnservedCert: "own"}} {
		in.Options = o
		if got := Build(in).Unserved.Name; got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
}
