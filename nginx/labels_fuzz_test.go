package nginx

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// hostileLabels are sets of labels, one "NAME=value" a line, which the container has in its
// environment too.
var hostileLabels = []string{
	"nagaya.host=a.example.com,*.a.test\nnagaya.path=/api\nnagaya.strip-prefix=true\nnagaya.hsts=max-age=1; preload",
	"nagaya.host=victim.test\nnagaya.upstream=victim\nnagaya.path=/x",
	"nagaya.host=a.test; } server { listen 1;\nnagaya.x.host=b.test\nnagaya.x.auth=../x\nnagaya.x.timeout=1s",
	"nagaya.host=a.test\nnagaya.tls=passthrough\nnagaya.ssh.listen=tcp:2222\nnagaya.ssh.allow=10.0.0.0/8,::1\nnagaya.dns.listen=udp:53",
	"nagaya.host=a.test\nnagaya.scheme=fastcgi\nnagaya.y.host=a.test\nnagaya.y.path=/y.z\nnagaya.y.scheme=grpcs\nnagaya.y.strip-prefix=true\nnagaya.y.verify=true",
	"nagaya.host=s.test\nnagaya.auth=staff\nnagaya.allow=10.1.2.3/8\nnagaya.body-size=0\nnagaya.buffering=off\nnagaya.balance=ip-hash\nnagaya.weight=7",
	"VIRTUAL_HOST=~^(a|b)\\.test$,www.example.*\nVIRTUAL_PATH=~^/(a|b{2})/\nVIRTUAL_DEST=/x/\nSSL_POLICY=AWS-2016-08\nVIRTUAL_PORT=8080",
	"VIRTUAL_HOST=a.test\nVIRTUAL_PATH=/a'b(c)*\nVIRTUAL_DEST=/$host\nNETWORK_ACCESS=internal\nEXTERNAL_HTTP_PORT=8081\nEXTERNAL_HTTPS_PORT=8444\nSERVER_TOKENS=on",
	`VIRTUAL_HOST_MULTIPORTS={"a.test": {"/": {"port": 8080}, "= /x": {"dest": "/y"}, "~* \\.php$": {"proto": "fastcgi"}}, "b.a.test": {}}` + "\nVIRTUAL_ROOT=/srv/www\nHSTS=off",
	"VIRTUAL_HOST=v.test\nVIRTUAL_PROTO=uwsgi\nVIRTUAL_PATH=/py\nVIRTUAL_DEST=/\nHTTPS_METHOD=nohttp\nCERT_NAME=default",
	"VIRTUAL_HOST=~a{,3}(?:x|[[:alpha:]])\nVIRTUAL_HOST_MULTIPORTS={\n",
	"VIRTUAL_HOST=~(?<nagaya_host>x)\\1\nHSTS=max-age=1\"; includeSubDomains",
}

// tableWith is a table with a site of the family victim and what containers of that name ask
// for by these labels, and the table without them.
func tableWith(name string, share bool, pair certs.Pair, others ...string) (all, alone route.Table) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	container := func(n int, name string, age time.Duration, set map[string]string, env []string) tasks.Container {
		c := tasks.Container{
			ID: fmt.Sprintf("%064x", n), Name: name, State: tasks.Running, Health: tasks.Healthy, Network: tasks.Bridge,
			CreatedAt: now.Add(-age), StartedAt: now.Add(-age), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, byte(n)})},
			Ports: []tasks.Port{{Container: 8080, Protocol: "tcp", Host: 32766 + uint16(n)}, {Container: 53, Protocol: "udp", Host: 32800}},
		}
		c.Labels, c.Env, _ = tasks.Keep(set, env, nginxproxy.Knows)
		return c
	}
	list := []tasks.Container{container(2, "victim", time.Hour, map[string]string{"nagaya.host": "victim.test", "nagaya.path": "/app"}, nil)}
	for i, words := range others {
		set := map[string]string{}
		lines := strings.Split(words, "\n")
		for _, line := range lines {
			if name, value, ok := strings.Cut(line, "="); ok {
				set[name] = value
			}
		}
		if i > 0 {
			name = fmt.Sprint("other-", i)
		}
		list = append(list, container(3+i, name, time.Minute, set, lines))
	}
	pair.DNSNames = []string{"victim.test", "*.a.test", "a.example.com"}
	in := route.Input{
		Snapshot: tasks.Snapshot{Complete: true, Containers: list},
		Certs:    certs.Inventory{Complete: true, Pairs: []certs.Pair{pair}},
		Nginx:    route.NginxNetwork{Host: netip.MustParseAddr("10.0.0.5")}, Now: now,
		Options:  route.Options{Stream: true, Reserved: []uint16{22}},
		Requests: labels.Requests(list, labelDefaults(true), nginxproxy.Reader(share)),
	}
	all = route.Build(in)
	in.Snapshot.Containers = list[:1]
	return all, route.Build(in)
}

// builds are what labels are rendered for.
func builds() []Build {
	newer := mustBuild(upstream128)
	newer.StreamPreread, newer.StreamRealIP = true, true
	return []Build{mustBuild(debian122), newer, {Version: MinVersion}}
}

// For all labels and variables of a container: the text for nginx, as an independent
// parser reads it, has no directive but those that the table
// permits, and the site of another family is unchanged.
func FuzzLabelsToText(f *testing.F) {
	for i, words := range hostileLabels {
		f.Add(words, "web", byte(i))
	}
	f.Add(hostileLabels[0], "a\nb;", byte(3))
	f.Fuzz(func(t *testing.T, words, name string, how byte) {
		both, alone := tableWith(name, how&1 != 0, pair, words)
		s := defaults()
		s.IPv6, s.HTTP3, s.ProxyProtocol = how&2 != 0, how&4 != 0, how&8 != 0
		if s.ProxyProtocol {
			s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		for _, b := range builds() {
			tree := Render(s, b, both.Shape, both.Pools)
			checkPermitted(t, s, both, tree)
			if _, err := readTokens(tree.Main); err != nil {
				t.Errorf("main file: %v\n%s", err, tree.Main)
			}
			want, _ := Render(s, b, alone.Shape, alone.Pools).Site("victim.test")
			got, ok := tree.Site("victim.test")
			if !ok || withoutListens(t, got.Text) != withoutListens(t, want.Text) {
				t.Errorf("the site of another family is now\n%s\nand was\n%s", got.Text, want.Text)
			}
			for _, p := range tree.Problems {
				if len(p.Text) > 2048 || len(p.Subject) > 600 || strings.ContainsAny(p.Text+p.Subject, "\n\r\x1b") {
					t.Errorf("problem is not bounded and printable: %+v", p)
				}
			}
		}
	})
}

// withoutListens returns the directives of a site without where it listens, which is
// behind a socket while some site's TLS is passed through.
func withoutListens(t *testing.T, text string) string {
	t.Helper()
	ds, err := readTokens(text)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(slices.DeleteFunc(ds, func(d directive) bool { return d.name == "listen" }))
}

// nginx accepts what is rendered of the seeds, of the corpus that fuzzing has found, and of
// random labels.
func TestLabelsAreAccepted(t *testing.T) { nginxtest.Each(t, testLabelsAreAccepted) }

func testLabelsAreAccepted(t *testing.T, n nginxtest.Nginx) {
	corpus := slices.Clone(hostileLabels)
	files, err := filepath.Glob("testdata/fuzz/FuzzLabelsToText/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		corpus = append(corpus, corpusValue(t, file))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		corpus = append(corpus, randomLabels(random))
	}
	crt, key := writePair(t)
	p := certs.Pair{Name: "default", CertFile: crt, KeyFile: key, Fingerprint: "ab"}
	b := mustBuild(n.Version)
	b.StreamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(b.StreamModule); err != nil && b.Stream == "dynamic" {
		t.Fatal(err)
	}
	sites, together := 0, 6 // a process for each set would take long
	for i := 0; i < len(corpus); i += together {
		words := corpus[i:min(i+together, len(corpus))]
		for j := range words { // so that no two ask for the same host
			words[j] = strings.ReplaceAll(words[j], ".test", fmt.Sprintf(".t%d.test", j))
		}
		all, _ := tableWith("web", i%(2*together) != 0, p, words...)
		dir := t.TempDir()
		s := defaults()
		s.HTTPPort, s.HTTPSPort = 18080, 18443
		if os.Getuid() == 0 {
			s.User = "root"
		}
		s.HtpasswdDir, s.SnippetDir = dir, dir
		if s.Stderr = true; b.Stream != "" {
			s.UpstreamCA = crt
		}
		tree := Render(s, b, all.Shape, all.Pools).Under(dir)
		sites += len(tree.Sites)
		if out, err := accepts(t, n.Binary, dir, tree.Files()); err != nil {
			t.Errorf("nginx -t: %v\n%s\nof the words\n%s\nthat gave\n%s", err, out, strings.Join(words, "\n\n"), tree)
		}
	}
	t.Logf("%d sites of %d sets of words", sites, len(corpus))
	if sites < len(corpus)*2/3 {
		t.Errorf("only %d sites of %d sets of words: they do not say enough", sites, len(corpus))
	}
}

// corpusValue returns the first value of a file of a fuzzing corpus, which is a string.
func corpusValue(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if quoted, ok := strings.CutPrefix(strings.TrimSpace(line), "string("); ok {
			s, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			return s
		}
	}
	t.Fatalf("%s holds no string", file)
	return ""
}

// randomLabels returns a random set of labels or variables, most of which are valid.
func randomLabels(random *rand.Rand) string {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	values := map[string][]string{
		"host": {"a.test", "b.a.test,*.a.test", "a.example.com", "x-1.test, y.test", "*.w.test", "{x}.test"},
		"path": {"/", "/api", "/a.b/c~d", "/it's(only)*this", "/a;b=c", "/x%20y", "api"}, "strip-prefix": {"true", "false", "maybe"},
		"scheme": {"http", "https", "grpc", "grpcs", "fastcgi", "uwsgi"}, "tls": {"auto", "terminate", "off", "passthrough"},
		"timeout": {"1s", "90s", "24h", "1500ms", "0"}, "body-size": {"0", "1g", "512k", "-1"}, "buffering": {"on", "off"},
		"allow": {"10.0.0.0/8", "::1,192.0.2.7", "all"}, "balance": {"round-robin", "least-conn", "ip-hash"}, "weight": {"1", "1000"},
		"listen": {"tcp:2222", "udp:5353", "tls:8883", "tcp:80"}, "proxy-protocol": {"true"}, "hsts": {"off", "max-age=1; includeSubDomains; preload"},
		"http2": {"on", "off"}, "http3": {"on"}, "verify": {"true"}, "server-name": {"inner.test"}, "cert": {"default", "../x"}, "health": {"/up?x=1"},
		"VIRTUAL_HOST": {"a.test", "~^(a|b{1,2})\\.test$", "www.example.*", "~^[a-z0-9_]+\\.w\\.test", "a.test,b.a.test:8080"},
		"VIRTUAL_PATH": {"/", "/app/", "~^/(a|b)/", "~* \\.php$", "= /x", "/a'b"}, "VIRTUAL_DEST": {"/", "/x", "/x/", "/$uri"},
		"VIRTUAL_PROTO": {"http", "https", "fastcgi", "grpc", "uwsgi"}, "VIRTUAL_PORT": {"8080", "x"}, "VIRTUAL_ROOT": {"/srv/www", "srv"},
		"HTTPS_METHOD": {"redirect", "noredirect", "nohttp", "nohttps"}, "SSL_POLICY": {"Mozilla-Modern", "AWS-2016-08"}, "NETWORK_ACCESS": {"internal", "external"},
		"EXTERNAL_HTTP_PORT": {"8081"}, "EXTERNAL_HTTPS_PORT": {"8444"}, "SERVER_TOKENS": {"on", "off"}, "HSTS": {"off", "max-age=31536000"},
		"VIRTUAL_HOST_MULTIPORTS": {`{"m.test": {"/": {"port": 8080, "dest": "/d"}, "~ ^/r": {"proto": "https"}}}`, `{`},
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	proxy := random.IntN(2) == 0
	var lines []string
	for _, name := range names {
		ours := name == strings.ToLower(name)
		must := name == "host" || name == "VIRTUAL_HOST"
		if ours == proxy || !must && random.IntN(3) > 0 {
			continue
		}
		if !ours {
			lines = append(lines, name+"="+pick(values[name]...))
			continue
		}
		route := pick("", "", "r.")
		if must {
			lines = append(lines, "nagaya.r.host="+pick(values[name]...))
			route = ""
		}
		lines = append(lines, "nagaya."+route+name+"="+pick(values[name]...))
	}
	return strings.Join(lines, "\n")
}
