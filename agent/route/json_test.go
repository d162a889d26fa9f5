package route_test

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

var update = flag.Bool("update", false, "write testdata/table.json again")

const goldenTable = "testdata/table.json"

// everyRoute is a table in which every field of every kind of route is set somewhere.
func everyRoute() Table {
	leaving := []tasks.Container{
		web("gone", labels("nagaya.host", "vacant.example.com"), of("vacant"), hostPort(40001)),
		web("gone2", labels("nagaya.listen", "tcp:2300"), of("vacantport"), hostPort(40002)),
		web("gone3", labels("nagaya.host", "vacantpass.example.com", "nagaya.tls", "passthrough"), of("vacantpass"), hostPort(40003)),
		web("half", labels("nagaya.host", "half.example.com", "nagaya.path", "/old"), of("half"), hostPort(40004)),
	}
	// It was there before shop.example.com, which its certificate names too.
	mq := web("mq", labels("nagaya.listen", "tls:8883", "nagaya.host", "mq.example.com"), of("mq"), hostPort(32775))
	in := input(append(leaving, mq)...)
	in.Options = Options{Stream: true, DefaultHost: "shop.example.com"}
	in.Certs.Authorities = []certs.Authority{{Name: "example.com", CAFile: "/c/example.com.ca.crt"}}
	in.Certs.Pairs = []certs.Pair{{
		Name: "example.com", CertFile: "/c/example.com.crt", KeyFile: "/c/example.com.key",
		DNSNames: []string{"shop.example.com", "mq.example.com"}, Fingerprint: "abcd",
	}}
	in.Prev, in.Now = build(in), noon.Add(time.Minute)
	in.Snapshot.Containers = []tasks.Container{
		web("shop1", labels("nagaya.host", "shop.example.com", "nagaya.path", "/api", "nagaya.strip-prefix", "true", "nagaya.scheme", "grpcs", "nagaya.verify", "true",
			"nagaya.server-name", "in.example.com", "nagaya.balance", "least-conn", "nagaya.weight", "3", "nagaya.body-size", "2m", "nagaya.timeout", "90s",
			"nagaya.buffering", "off", "nagaya.auth", "staff", "nagaya.allow", "10.0.0.0/8", "nagaya.hsts", "max-age=60", "nagaya.http2", "off", "nagaya.http3", "on")),
		web("shop2", labels("nagaya.host", "shop.example.com"), hostPort(32769), healthIs(tasks.Unhealthy)),
		web("shop3", labels("nagaya.host", "shop.example.com"), hostPort(32770), healthIs(tasks.Starting)),
		web("php", env("VIRTUAL_HOST", "~^php[0-9]+\\.", "VIRTUAL_PATH", "~ ^/x", "VIRTUAL_PROTO", "fastcgi", "VIRTUAL_ROOT", "/srv", "EXTERNAL_HTTP_PORT", "8081",
			"EXTERNAL_HTTPS_PORT", "8444", "SSL_POLICY", "Mozilla-Modern", "SERVER_TOKENS", "on", "NETWORK_ACCESS", "internal",
			proxyLabel+"non-get-redirect", "307", proxyLabel+"keepalive", "16"), of("php"), hostPort(32771)),
		web("dest", env("VIRTUAL_HOST", "dest.example.com", proxyLabel+"keepalive", "auto", "VIRTUAL_PATH", "/app/", "VIRTUAL_DEST", "/"), of("dest"), hostPort(32772)),
		web("pass", labels("nagaya.host", "pass.example.com", "nagaya.tls", "passthrough", "nagaya.proxy-protocol", "true"), of("pass"), hostPort(32773)),
		web("git", labels("nagaya.listen", "tcp:2222", "nagaya.allow", "192.0.2.0/24"), of("git"), hostPort(32774)),
		mq,
		web("half", labels("nagaya.host", "half.example.com", "nagaya.path", "/new"), of("half"), hostPort(40004)),
		web("silent", labels(), of("silent"), hostPort(32776)),
	}
	return build(in)
}

// The file was written by the version before pools were a part of their own.
func TestJSONOfTables(t *testing.T) {
	table := everyRoute()
	got, err := json.MarshalIndent(table, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(goldenTable, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenTable)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(value(t, want), value(t, got)); d != "" {
		t.Errorf("the JSON differs (-want +got):\n%s", d)
	}
	// What is not in the JSON, and what is there as another value.
	table.Probes, table.Problems, table.Next, table.Published = nil, nil, time.Time{}, nil
	auto := slices.IndexFunc(table.Sites, func(s Site) bool { return s.Locations[0].Keepalive == KeepaliveAuto })
	table.Sites[auto].Locations[0].Keepalive = 2
	var back Table
	if err := json.Unmarshal(want, &back); err != nil {
		t.Fatal(err)
	}
	back.Problems = nil
	if d := cmp.Diff(table, back, equalValues); d != "" {
		t.Errorf("what is read differs from what was written (-written +read):\n%s", d)
	}
}

// value is the JSON without its problems, whose form is another package's.
func value(t *testing.T, text []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "problems")
	return v
}
