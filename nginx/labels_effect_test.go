package nginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// effects has for each documented label a value, and the other labels that it needs to mean
// something. Those that are empty are not about routes.
var effects = map[string]struct {
	value  string
	beside []string
}{
	"nagaya.host":           {"b.test", []string{"nagaya.port=8080"}},
	"nagaya.path":           {"/x", nil},
	"nagaya.strip-prefix":   {"true", []string{"nagaya.path=/x"}},
	"nagaya.port":           {"8081", nil},
	"nagaya.network":        {"front", nil},
	"nagaya.scheme":         {"fastcgi", nil},
	"nagaya.tls":            {"off", nil},
	"nagaya.weight":         {"7", nil},
	"nagaya.balance":        {"ip-hash", nil},
	"nagaya.health":         {"/healthz", nil},
	"nagaya.body-size":      {"7m", nil},
	"nagaya.timeout":        {"7s", nil},
	"nagaya.buffering":      {"off", nil},
	"nagaya.auth":           {"staff", nil},
	"nagaya.allow":          {"192.0.2.0/24", nil},
	"nagaya.listen":         {"tcp:2222", nil},
	"nagaya.proxy-protocol": {"true", []string{"nagaya.tls=passthrough"}},
	"nagaya.cert":           {"other", nil},
	"nagaya.hsts":           {"max-age=7", nil},
	"nagaya.http2":          {"off", nil},
	"nagaya.http3":          {"on", nil},
	"nagaya.verify":         {"true", []string{"nagaya.scheme=https"}},
	"nagaya.server-name":    {"inner.test", []string{"nagaya.scheme=https"}},
	"nagaya.upstream":       {"shared", []string{"nagaya.host=b.test"}},
	"nagaya.batch":          {"true", nil},
	"nagaya.nginx":          {},

	"VIRTUAL_HOST":                 {"b.test", nil},
	"VIRTUAL_HOST_MULTIPORTS":      {"{c.test: {/: {port: 8081}}}", nil},
	"VIRTUAL_PORT":                 {"8081", nil},
	"VIRTUAL_PROTO":                {"fastcgi", nil},
	"VIRTUAL_PATH":                 {"/x", nil},
	"VIRTUAL_DEST":                 {"/y", []string{"VIRTUAL_PATH=/x"}},
	"VIRTUAL_ROOT":                 {"/srv", []string{"VIRTUAL_PROTO=fastcgi"}},
	"EXTERNAL_HTTP_PORT":           {"8888", nil},
	"EXTERNAL_HTTPS_PORT":          {"8443", nil},
	"HTTPS_METHOD":                 {"nohttp", nil},
	"CERT_NAME":                    {"other", nil},
	"HSTS":                         {"off", nil},
	"SSL_POLICY":                   {"Mozilla-Old", nil},
	"SERVER_TOKENS":                {"on", nil},
	"NETWORK_ACCESS":               {"internal", nil},
	"ENABLE_HTTP_ON_MISSING_CERT":  {"false", []string{"VIRTUAL_HOST=none.test", "com.github.nginx-proxy.nginx-proxy.trust-default-cert=false"}},
	"ACME_HTTP_CHALLENGE_LOCATION": {"false", nil},
	"LETSENCRYPT_HOST":             {"a.test", nil},
	"ACME_HOST":                    {"a.test", nil},

	"ACME_SINGLE_DOMAIN_CERTS":        {"true", []string{"VIRTUAL_HOST=b.test,c.test", "ACME_HOST=b.test,c.test"}},
	"LETSENCRYPT_SINGLE_DOMAIN_CERTS": {"true", []string{"VIRTUAL_HOST=b.test,c.test", "ACME_HOST=b.test,c.test"}},
	"ACME_KEYSIZE":                    {"4096", []string{"ACME_HOST=a.test"}},
	"LETSENCRYPT_KEYSIZE":             {"ec-384", []string{"ACME_HOST=a.test"}},
	"ACME_CERT_PROFILE":               {"shortlived", []string{"ACME_HOST=a.test"}},
	"ACME_CA_URI":                     {"https://ca.test/dir", []string{"ACME_HOST=a.test"}},
	"LETSENCRYPT_TEST":                {"true", []string{"ACME_HOST=a.test"}},

	nginxproxy.NginxLabel: {},

	"com.github.nginx-proxy.nginx-proxy.keepalive":          {"7", nil},
	"com.github.nginx-proxy.nginx-proxy.loadbalance":        {"ip_hash;", nil},
	"com.github.nginx-proxy.nginx-proxy.debug-endpoint":     {"true", nil},
	"com.github.nginx-proxy.nginx-proxy.http2.enable":       {"false", nil},
	"com.github.nginx-proxy.nginx-proxy.http3.enable":       {"true", nil},
	"com.github.nginx-proxy.nginx-proxy.non-get-redirect":   {"301", nil},
	"com.github.nginx-proxy.nginx-proxy.trust-default-cert": {"false", []string{"VIRTUAL_HOST=none.test"}},
	"com.github.nginx-proxy.nginx-proxy.ssl_verify_client":  {"optional", nil},
}

// Every label that is documented changes what nginx serves, or what is asked of the container.
func TestEveryLabelHasAnEffect(t *testing.T) {
	docs := append(labels.Docs(), nginxproxy.Docs()...)
	for _, d := range docs {
		row, ok := effects[d.Name]
		if !ok {
			t.Errorf("%s has no value here", d.Name)
		}
		if row.value == "" {
			continue
		}
		words := []string{"nagaya.host=a.test"}
		if !strings.HasPrefix(d.Name, "nagaya.") {
			words = []string{"VIRTUAL_HOST=a.test"}
		}
		words = append(words, row.beside...)
		with := append(slices.Clone(words), d.Name+"="+row.value)
		without, problems := outcome(words...)
		if problems != "" {
			t.Errorf("%q: %s", words, problems)
		}
		if got, problems := outcome(with...); got == without || problems != "" {
			t.Errorf("%s=%s changes nothing, or is wrong: %s", d.Name, row.value, problems)
		}
	}
	if len(effects) != len(docs) {
		t.Errorf("%d labels are here, and %d are documented", len(effects), len(docs))
	}
}

// outcome is everything that is done for two containers, of which the second has these words,
// and the errors; a later word replaces an earlier one.
func outcome(words ...string) (all, problems string) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	set := map[string]string{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		set[name] = value
	}
	first := map[string]string{}
	for _, name := range []string{"nagaya.host", "VIRTUAL_HOST"} {
		if set[name] != "" {
			first[name] = "a.test"
		}
	}
	var list []tasks.Container
	for i, labels := range []map[string]string{first, set} {
		at := now.Add(time.Duration(i-60) * time.Minute)
		c := tasks.Container{
			ID: fmt.Sprintf("%064x", i+1), Name: fmt.Sprint("c", i), State: tasks.Running, Health: tasks.Healthy, Network: tasks.Bridge,
			CreatedAt: at, StartedAt: at, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, byte(i + 2)})},
			Networks: []tasks.Network{
				{Name: "bridge", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, byte(i + 2)})}},
				{Name: "front", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, 0, byte(i + 2)})}},
			},
			Ports: []tasks.Port{{Container: 8080, Protocol: "tcp"}}, Task: tasks.TaskRef{Family: "web", Revision: "1", ContainerName: "app"},
		}
		c.Labels, c.Env, _ = tasks.Keep(labels, nil, nginxproxy.Knows)
		list = append(list, c)
	}
	d := labelDefaults(false)
	d.ACME = certs.Settings{ACME: config.ACME{Email: "ops@a.test", Directories: []string{"https://ca.test/dir"}, Staging: "https://ca.test/staging"}}
	in := route.Input{
		Snapshot: tasks.Snapshot{Complete: true, Containers: list}, Now: now, Reach: route.Reach{},
		Requests: labels.Requests(list, d, nginxproxy.Reader(false)),
		Certs: certs.Inventory{
			Complete: true, Authorities: []certs.Authority{{Name: "a.test", CAFile: "/c/a.test.ca.crt", CRLFile: "/c/a.test.crl.pem", Fingerprint: "cd"}},
			Pairs: []certs.Pair{
				{Name: "default", CertFile: "/c/default", KeyFile: "/c/default", DNSNames: []string{"x.test"}},
				{Name: "other", CertFile: "/c/other", KeyFile: "/c/other", DNSNames: []string{"a.test", "b.test"}, DHParamFile: "/c/dh"},
				{Name: "own", CertFile: "/c/own", KeyFile: "/c/own", DNSNames: []string{"a.test", "b.test"}, NotAfter: now},
			},
		},
		Options: route.Options{ACME: true, Stream: true, Shared: map[string][]string{"shared": nil}},
	}
	table := route.Build(in)
	for _, p := range table.Probes {
		in.Reach[p] = route.Reached{State: route.Reachable}
	}
	probes := fmt.Sprintf("%+v", table.Probes)
	table = route.Build(in)
	b := mustBuild(upstream128)
	b.StreamPreread, b.StreamRealIP = true, true
	s := defaults()
	s.ChallengeDir = "/c"
	tree := Render(s, b, table.Shape, table.Pools)
	for _, s := range table.Sites {
		probes += "\n" + s.Host + " belongs to " + s.Family
	}
	probes += fmt.Sprintf("\n%+v", table.Wishes)
	for _, p := range table.Problems {
		if p.Severity == problem.Error && p.Code != "no-certificate" {
			problems += p.Text + "\n"
		}
	}
	return fmt.Sprintf("%s\n%s\n%+v", tree.Main, probes, tree.Sites), problems
}
