package nginx

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

var (
	familyInputs = flag.Int("families", 3000, "how many random inputs of three families TestFamilies makes")
	familySeed   = flag.Uint64("families-seed", 1, "the first of their seeds")
)

// familyWords are values for the words of a family, most of them good ones. The words of
// nginx itself are among the hosts.
var familyWords = map[string][]string{
	"nagaya.host": {
		"a.test", "b.a.test", "*.a.test", "a.example.com", "*.example.com", "www.example.*", "default", "include", "hostnames", "volatile", "off", "on", "all", "none",
		"*.b.a.test", "*.com", "*.test", "*.test", "a.*", "www.*", "x.b.a.test", "unix", "8883", "2222", "tls", "tcp", "nagaya", "nagaya_down", "_", "localhost", "shop.test_location", "a.test,b.test", "c.test, default", "xn--4gq.test", "A.test", "a.test.",
	},
	"nagaya.path":                  {"/", "/api", "/a.b/c~d", "/it's(only)*this", "/a;b=c", "/x%20y", "api", "/api/v1", "/$host", "/@nagaya_down", "/a,b", "/a/b"},
	"nagaya.strip-prefix":          {"true", "false"},
	"nagaya.scheme":                {"http", "https", "grpc", "grpcs", "fastcgi", "uwsgi", "h2c"},
	"nagaya.tls":                   {"auto", "terminate", "off", "passthrough", "noredirect"},
	"nagaya.timeout":               {"1s", "90s", "1500ms", "0"},
	"nagaya.body-size":             {"0", "1g", "512k", "-1"},
	"nagaya.buffering":             {"on", "off"},
	"nagaya.allow":                 {"10.0.0.0/8", "::1,192.0.2.7", "0.0.0.0/0", "all"},
	"nagaya.auth":                  {"alpha", "beta", "gamma", "../x", "a.test"},
	"nagaya.balance":               {"round-robin", "least-conn", "ip-hash"},
	"nagaya.weight":                {"1", "1000"},
	"nagaya.hsts":                  {"off", "max-age=1; includeSubDomains"},
	"nagaya.http2":                 {"on", "off"},
	"nagaya.http3":                 {"on", "off"},
	"nagaya.verify":                {"true"},
	"nagaya.server-name":           {"inner.test", "$host"},
	"nagaya.cert":                  {"alpha", "beta", "gamma", "default", "../x"},
	"nagaya.s.listen":              {"tcp:2222", "udp:5353", "tls:8883", "tcp:80", "udp:443", "tls:8443"},
	"nagaya.s.allow":               {"10.0.0.0/8", "::/0"},
	"nagaya.s.host":                {"a.test", "8883", "b.test"},
	"nagaya.port":                  {"8080", "53", "x"},
	"nagaya.upstream":              {"pair", "pair", "open", "open", "open", "nginx-proxy", "alpha", "shared:nginx-proxy", "name:alpha"},
	"nagaya.proxy-protocol":        {"true"},
	"VIRTUAL_HOST":                 {"a.test", "[fd00::1],a.test", "~^(a|b)\\.test$", "www.example.*", "b.a.test:8080", "default", "*.a.test,b.test", "~a.test", "~^default$", "~^[a-z]+.a.test$", "~^x[.](b[.])?a[.]test|y$", "~t$", "*.com", "a.*", "www.*"},
	"VIRTUAL_PATH":                 {"/", "/app/", "~^/(a|b)/", "= /x", "/a'b", "~* \\.php$", "~\\x{100}"},
	"VIRTUAL_DEST":                 {"/", "/x", "/$uri"},
	"VIRTUAL_PROTO":                {"http", "https", "fastcgi", "grpc", "uwsgi"},
	"VIRTUAL_PORT":                 {"8080", "53"},
	"VIRTUAL_ROOT":                 {"/srv/www", "srv"},
	"HTTPS_METHOD":                 {"redirect", "noredirect", "nohttp", "nohttps"},
	"SSL_POLICY":                   {"Mozilla-Modern", "AWS-2016-08"},
	"NETWORK_ACCESS":               {"internal", "external"},
	"ACME_HTTP_CHALLENGE_LOCATION": {"true", "legacy", "false"},
	"com.github.nginx-proxy.nginx-proxy.debug-endpoint": {"true"},
	"CERT_NAME":           {"alpha", "beta", "gamma"},
	"HSTS":                {"off", "max-age=31536000", "max-age=1\"; x"},
	"SERVER_TOKENS":       {"on"},
	"EXTERNAL_HTTP_PORT":  {"8081"},
	"EXTERNAL_HTTPS_PORT": {"8444"},
	"VIRTUAL_HOST_MULTIPORTS": {
		`{"m.test": {"/": {"port": 8080, "dest": "/d"}, "~ ^/r": {"proto": "https"}}}`, `{"a.test": {"/b": {}}}`, `{"default": {}}`, `{`,
	},
}

var familyKeys = slices.Sorted(maps.Keys(familyWords))

// familyInput returns the labels, or variables, of one container. Those of a crowd are often
// about the same host.
func familyInput(r *rand.Rand, crowd bool) (set map[string]string, env []string) {
	set = map[string]string{}
	ours := r.IntN(3) > 0 || crowd
	defer func() {
		if !crowd {
			return
		}
		set["nagaya.host"] = "a.test"
		if r.IntN(2) == 0 {
			set["nagaya.upstream"] = "open"
		}
		if r.IntN(2) == 0 {
			delete(set, "nagaya.path")
			delete(set, "nagaya.tls")
		}
	}()
	for _, key := range familyKeys {
		must := key == "nagaya.host" || key == "VIRTUAL_HOST"
		if ours != strings.HasPrefix(key, "nagaya.") || !must && r.IntN(4) > 0 {
			continue
		}
		value := familyWords[key][r.IntN(len(familyWords[key]))]
		if r.IntN(24) == 0 { // bytes that mean something to nginx
			at, more := r.IntN(len(value)+1), []string{"\"", "\n", ";", "}", "{", "$", "\\", "#", "'", " ", "~", "*", "\x00", "é", "/", ":", "%0a", ","}
			value = value[:at] + more[r.IntN(len(more))] + value[at:]
		}
		if ours {
			set[key] = value
		} else {
			env = append(env, key+"="+value)
		}
	}
	return set, env
}

// families are the containers of three families, by their names, as the sources list them.
type families map[string][]tasks.Container

var familyNames = []string{"alpha", "beta", "gamma"}

// familyKind is the kind of a family: ECS tasks, a Compose service or a container's name.
func familyKind(name string, seed uint64) string {
	return []string{"ecs", "compose", "name"}[(seed/27+uint64(slices.Index(familyNames, name)))%4%3]
}

// familyName is a family's name with its kind.
func familyName(name string, seed uint64) string {
	if kind := familyKind(name, seed); kind != "compose" {
		return kind + ":" + name
	}
	return "compose:" + name + "/web"
}

// identify gives a container what makes it one of a family of that kind. Only a task of ECS
// is listed by the ECS agent.
func identify(c *tasks.Container, name, kind string) {
	switch kind {
	case "ecs":
		c.Task = tasks.ECSRef(map[string]string{
			"com.amazonaws.ecs.task-definition-family": name, "com.amazonaws.ecs.task-definition-version": "1", "com.amazonaws.ecs.container-name": "web",
		})
	case "compose":
		c.Labels[tasks.LabelComposeProject], c.Labels[tasks.LabelComposeService] = name, "web"
	case "name":
		c.Name = name
	}
}

// disguise gives a container of the stranger what would make it one of another family, as far as
// who runs it can choose: a name that is free, Compose's labels where the other is none of
// Compose's, and ECS's labels.
func disguise(r *rand.Rand, c *tasks.Container, other string, seed uint64) {
	for _, kind := range []string{"ecs", "compose", "name"} {
		if (kind == "ecs" || kind != familyKind(other, seed)) && r.IntN(2) == 0 {
			identify(c, other, kind)
		}
	}
}

var familyStart = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func randomFamilies(seed uint64) families {
	r := rand.New(rand.NewPCG(seed, 77))
	all := families{}
	for i, name := range familyNames {
		for n := range 1 + r.IntN(2) {
			set, env := familyInput(r, seed/3%3 == 0)
			at := byte(10*i + n + 2)
			c := tasks.Container{
				ID: fmt.Sprintf("%064x", at), Name: fmt.Sprintf("%s-%d", name, at), State: tasks.Running, Health: tasks.Healthy, Network: tasks.Bridge,
				CreatedAt: familyStart.Add(-time.Duration(r.IntN(3600)) * time.Second), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, at})},
				Ports: []tasks.Port{{Container: 8080, Protocol: "tcp", Host: 32000 + uint16(at)}, {Container: 53, Protocol: "udp", Host: 33000 + uint16(at)}},
			}
			c.StartedAt = c.CreatedAt
			if c.Labels, c.Env, _ = tasks.Keep(set, env, nginxproxy.Knows); c.Labels == nil {
				c.Labels = map[string]string{}
			}
			identify(&c, name, familyKind(name, seed))
			if uint64(i) == seed%3 {
				disguise(r, &c, familyNames[(i+1+r.IntN(2))%3], seed)
			}
			if familyKind(name, seed) == "name" && c.Task == (tasks.TaskRef{}) {
				c.ServiceKey = tasks.ServiceKey("image-"+name, c.Labels, c.Labels, c.Env)
			}
			all[name] = append(all[name], c)
		}
	}
	return all
}

// table builds the table of some of the families, that much later and after another. The ECS agent
// lists the containers of those that are ECS's. The word pair is for those that are no stranger.
// Half of the seeds allow expressions.
func (f families) table(previous route.Table, later time.Duration, seed uint64, pairs []certs.Pair, names ...string) route.Table {
	var list []tasks.Container
	agent := tasks.Agent{Heard: true, Containers: map[string]tasks.AgentContainer{}}
	for _, name := range names {
		list = append(list, f[name]...)
		for _, c := range f[name] {
			if familyKind(name, seed) == "ecs" {
				agent.Answered, agent.Containers[c.ID] = true, tasks.AgentContainer{Task: tasks.TaskRef{Family: name}}
			}
		}
	}
	var friends []string
	for i, name := range familyNames {
		if uint64(i) != seed%3 {
			friends = append(friends, familyName(name, seed))
		}
	}
	s := tasks.Merge(tasks.Containers{Complete: true, List: list}, agent)
	return route.Build(route.Input{
		Snapshot: s, Certs: certs.Inventory{Complete: true, Pairs: pairs}, Prev: previous,
		Nginx: route.NginxNetwork{Host: netip.MustParseAddr("10.0.0.5")}, Now: familyStart.Add(later),
		Options:  route.Options{Stream: true, Reserved: []uint16{22}, Shared: map[string][]string{"pair": friends, "open": nil}},
		Requests: labels.Requests(s.Containers, labelDefaults(seed&32 != 0), nginxproxy.Reader(false)),
	})
}

// labelDefaults are those of an operator who has set nothing but whether containers may use regular expressions.
func labelDefaults(expressions bool) labels.Defaults {
	d := labels.Configured(config.Default())
	d.Expressions = expressions
	return d
}

// shareFault says what the stranger loosens at the hosts that it shares by a word for all: what
// keeps clients out of a path that was there, or that a path above it kept them out of.
func shareFault(before, after route.Table) string {
	is := map[string]route.Site{}
	for _, s := range after.Sites {
		is[s.Host] = s
	}
	for _, was := range before.Sites {
		if was.Family != "upstream:open" {
			continue
		}
		now := is[was.Host]
		if now.TLS != was.TLS || now.Plain != was.Plain || now.Cert.Name != was.Cert.Name || fmt.Sprint(now.Edge) != fmt.Sprint(was.Edge) || (now.Passthrough == nil) != (was.Passthrough == nil) {
			return fmt.Sprintf("%s was %+v and is %+v", was.Host, was, now)
		}
		paths := map[route.PoolKey]route.Location{}
		for _, l := range was.Locations {
			paths[was.PoolKey(l)] = l
		}
		for _, l := range now.Locations {
			at, there := paths[was.PoolKey(l)]
			for _, o := range was.Locations {
				over := o.Path == "/" || o.Path == l.Path || strings.HasPrefix(l.Path, strings.TrimSuffix(o.Path, "/")+"/")
				if !there && (o.Match == route.Segments || o.Match == route.Prefix) && over && len(o.Path) >= len(at.Path) {
					at = o
				}
			}
			if there && (l.Auth != at.Auth || fmt.Sprint(l.Allow) != fmt.Sprint(at.Allow)) || at.Auth != "" && l.Auth != at.Auth || len(at.Allow) > 0 && fmt.Sprint(l.Allow) != fmt.Sprint(at.Allow) {
				return fmt.Sprintf("%s%s asks for %q and %v, and %s for %q and %v", was.Host, l.Path, l.Auth, l.Allow, at.Path, at.Auth, at.Allow)
			}
			if !there {
				continue
			}
			olds, theirs, ours, n := map[string]bool{}, 0, 0, 0
			for _, s := range before.Pools[was.PoolKey(l)].Servers {
				olds[s.Container] = true
			}
			for _, s := range after.Pools[was.PoolKey(l)].Servers {
				if olds[s.Container] {
					ours += s.Weight
				} else {
					theirs, n = theirs+s.Weight, n+1
				}
			}
			if theirs > n*ours { // each may be a family of its own
				return fmt.Sprintf("%s%s: the stranger has %d, the others %d", was.Host, l.Path, theirs, ours)
			}
		}
	}
	return ""
}

// redeployFault says which hosts and ports of the others the stranger gets while these are redeployed:
// for nine minutes none of their containers is there. What "docker run" started gets those of a
// container of "docker run" that was removed, and nothing else.
func (f families) redeployFault(alone, all route.Table, seed uint64, pairs []certs.Pair, stranger string) string {
	after := all
	for _, later := range []time.Duration{time.Second, 5 * time.Second, 9 * time.Minute} {
		after = f.table(after, later, seed, pairs, stranger)
	}
	plain := !slices.ContainsFunc(f[stranger], func(c tasks.Container) bool { return c.ServiceKey == "" })
	is := map[string]string{}
	for _, s := range after.Sites {
		is[s.Host] = s.Family
	}
	for _, s := range after.Streams {
		is[s.Listen.String()] = s.Family
	}
	check := func(at, family string) string {
		if family == "upstream:open" || plain && strings.HasPrefix(family, "name:") || is[at] == family {
			return ""
		}
		return fmt.Sprintf("while it is redeployed, %s of %s goes to %q, beside %s", at, family, is[at], stranger)
	}
	fault := ""
	for _, s := range alone.Sites {
		fault = cmp.Or(fault, check(s.Host, s.Family))
	}
	for _, s := range alone.Streams {
		fault = cmp.Or(fault, check(s.Listen.String(), s.Family))
	}
	return fault
}

// familyCerts are a certificate of each family.
func familyCerts(crt, key string) (pairs []certs.Pair) {
	for name, dns := range map[string][]string{
		"alpha": {"a.test", "*.a.test"}, "beta": {"b.test", "a.example.com", "*.example.com"}, "gamma": {"default", "8883", "c.test"},
	} {
		pairs = append(pairs, certs.Pair{Name: name, CertFile: crt, KeyFile: key, Fingerprint: strings.Repeat(name[:1], 64), DNSNames: dns})
	}
	slices.SortFunc(pairs, func(a, b certs.Pair) int { return strings.Compare(a.Name, b.Name) })
	return pairs
}

// familySettings are the settings for a seed.
func familySettings(seed uint64) Settings {
	s := defaults()
	s.IPv6, s.HTTP3 = seed&1 != 0, seed&2 != 0
	if seed&4 != 0 {
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		s.ProxyProtocol = seed&8 != 0
	}
	s.Passwords = []string{"alpha", "beta", "gamma", "a.test"}
	s.HostAuth = seed&16 != 0
	return s
}

// served are the files of the hosts and ports of a tree.
func served(tree Tree) map[string]SiteFile {
	all := map[string]SiteFile{}
	for _, f := range tree.Sites {
		if kind, _, ok := strings.Cut(f.Host, ":"); ok && slices.Contains([]string{"http", "https", "quic"}, kind) && f.Stream == "" {
			continue // the answer to unknown names at a port
		}
		all[f.Host] = f
	}
	return all
}

// said is what a file says: its directives, as an independent reader sees them. Where it
// listens is left out: that is a socket while some site's TLS is passed through.
func said(t testing.TB, f SiteFile) string {
	var all []string
	for _, text := range []string{f.Text, f.Stream} {
		ds, err := readTokens(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for _, d := range ds {
			refused := d.in == "map" && strings.HasPrefix(d.name, `\`) // the names of others at a port with TLS
			if d.name != "listen" && !(refused && text == f.Stream) {
				all = append(all, fmt.Sprintf("%s/%s %q", d.in, d.name, d.args))
			}
		}
	}
	return strings.Join(all, "\n")
}

// mainServed is what the main file says for all sites, without the sizes of hashes and tables and the
// parts that exist only while some site's TLS is passed through or there are streams.
func mainServed(t testing.TB, tree Tree) string {
	ds, err := readTokens(tree.Main)
	if err != nil {
		t.Fatalf("%v in\n%s", err, tree.Main)
	}
	var said []string
	for _, d := range ds {
		if strings.Contains(d.name, "_hash_") || d.name == "worker_connections" || d.name == "worker_rlimit_nofile" || d.name == "listen" || d.name == "load_module" || d.name == "stream" || strings.HasPrefix(d.in, "stream") {
			continue
		}
		said = append(said, fmt.Sprintf("%s/%s %q", d.in, d.name, d.args))
	}
	return strings.Join(said, "\n")
}

// familyFault says what the third family changes for the other two.
func familyFault(t testing.TB, f families, seed uint64, pairs []certs.Pair, b Build) string {
	names := familyNames
	stranger := names[seed%3]
	others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == stranger })
	alone := f.table(route.Table{}, 0, seed, pairs, others...)
	all := f.table(alone, 0, seed, pairs, names...)
	if fault := f.redeployFault(alone, all, seed, pairs, stranger); fault != "" {
		return fault
	}
	if fault := shareFault(alone, all); fault != "" {
		return fmt.Sprintf("with %s, %s\n%v", stranger, fault, all.Problems)
	}
	open := map[string]bool{}
	for _, site := range alone.Sites {
		open[site.Host] = site.Family == "upstream:open"
	}
	s := familySettings(seed)
	before, after := Render(s, b, alone.Shape, alone.Pools), Render(s, b, all.Shape, all.Pools)
	is := served(after)
	for host, was := range served(before) {
		if open[host] || was.Text == is[host].Text && was.Stream == is[host].Stream {
			continue
		}
		if a, b := said(t, was), said(t, is[host]); a != b {
			return fmt.Sprintf("with %s, %s is served\n%s\nand was\n%s\n%v", stranger, host, b, a, all.Problems)
		}
	}
	if before.Main != after.Main && before.needs.passthrough == after.needs.passthrough {
		if a, b := mainServed(t, before), mainServed(t, after); a != b {
			return fmt.Sprintf("with %s, the main file is\n%s\nand was\n%s", stranger, b, a)
		}
	}
	if fault := portFault(t, after, all.Shape); fault != "" {
		return fault
	}
	family := map[string]string{} // of those that share hosts, as the operator lets them, one
	for _, site := range all.Sites {
		family[site.Host] = site.Family
	}
	was := answering(t, before)
	for at, now := range answering(t, after) {
		if w := was[at]; w != "" && family[now] != family[w] && (!strings.HasPrefix(w, "~") || strings.HasPrefix(now, "~")) {
			return fmt.Sprintf("with %s, %s is answered by %s and was by %s", stranger, at, now, w)
		}
	}
	seen := map[string]string{}
	for _, site := range after.Sites {
		if other, ok := seen[site.Name]; ok {
			return fmt.Sprintf("%s and %s have one file", other, site.Host)
		}
		seen[site.Name] = site.Host
		ds, _ := readTokens(site.Text + site.Stream)
		for _, d := range ds {
			if d.name != "upstream" {
				continue
			}
			if other, ok := seen[d.args[0]]; ok {
				return fmt.Sprintf("%s and %s have one upstream", other, site.Host)
			}
			seen[d.args[0]] = site.Host
		}
	}
	return ""
}

// For labels and variables of three families, with a password, a list of networks and a
// certificate each: what the third asks for changes nothing of what is served for the hosts
// and ports of the other two. The inputs follow from seeds, so that a failure can be
// repeated: "make fuzz-families" tries a million.
func TestFamilies(t *testing.T) {
	pairs, builds := familyCerts("/etc/nagaya/certs/a.crt", "/etc/nagaya/certs/a.key"), builds()
	work, end := make(chan uint64), *familySeed+uint64(*familyInputs)
	var wg sync.WaitGroup
	var lock sync.Mutex
	faults := 0
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for first := range work {
				for seed := first; seed < min(first+100, end); seed++ {
					if fault := familyFault(t, randomFamilies(seed), seed, pairs, builds[seed/3%3]); fault != "" {
						lock.Lock()
						if faults++; faults <= 5 {
							t.Errorf("-families-seed %d: %s", seed, fault)
						}
						lock.Unlock()
					}
				}
			}
		})
	}
	for seed := *familySeed; seed < end; seed += 100 {
		work <- seed
	}
	close(work)
	wg.Wait()
	t.Logf("%d inputs, %d faults", *familyInputs, faults)
}

// nginx accepts the tree of three families whole.
func TestFamiliesAreAccepted(t *testing.T) { nginxtest.Each(t, testFamiliesAreAccepted) }

func testFamiliesAreAccepted(t *testing.T, n nginxtest.Nginx) {
	crt, key := writePair(t)
	b := mustBuild(n.Version)
	b.StreamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"
	for seed := uint64(1); seed <= 40; seed++ {
		f := randomFamilies(seed)
		all := f.table(route.Table{}, 0, seed, familyCerts(crt, key), familyNames...)
		dir := t.TempDir()
		s := familySettings(seed)
		s.IPv6, s.HTTPPort, s.HTTPSPort, s.HtpasswdDir, s.SnippetDir, s.UpstreamCA, s.Stderr = false, 18080, 18443, dir, dir, crt, true
		if s.User = ""; os.Getuid() == 0 {
			s.User = "root"
		}
		tree := Render(s, b, all.Shape, all.Pools).Under(dir)
		if out, err := accepts(t, n.Binary, dir, tree.Files()); err != nil {
			t.Errorf("seed %d: nginx -t: %v\n%s\n%s", seed, err, out, tree)
		}
		os.RemoveAll(filepath.Join(dir, SitesDir))
	}
}
