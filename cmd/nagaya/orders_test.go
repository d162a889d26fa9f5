package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// What the doctor asks of a CA, of S3 and of Route 53, asked of a real CA and by their real protocols.
func TestOrdersAreTried(t *testing.T) {
	pebble := testenv.StartPebble(t, testenv.PebbleOptions{Bindings: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, z := range []simaws.ZoneSpec{{ID: "Z1", Name: "open.test", Changeable: []string{"_acme-challenge.*"}}, {ID: "Z2", Name: "closed.test", Changeable: []string{"www.*"}}} {
		if err := world.AddZone(z); err != nil {
			t.Fatal(err)
		}
	}
	cloud, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range cloud.Env(simaws.DefaultInstance) {
		t.Setenv(k, v)
	}
	c := config.Default()
	c.StateDir = t.TempDir()
	c.Certs.ACME.CAFile, c.Certs.ACME.EABFile = pebble.Roots, filepath.Join(c.StateDir, "eab")
	if err := os.WriteFile(c.Certs.ACME.EABFile, []byte(pebble.Directory+" kid-1 zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runDir := answers(t, &pretended{status: report.Status{Orders: certs.Report{Entries: []certs.Entry{
		{Source: "acme", Hosts: []string{"b.test", "a.test"}}, {Source: "file", Hosts: []string{"own.test"}}, {Source: "import", Hosts: []string{"a.test"}},
	}}}})
	parts, err := (&cli{out: io.Discard, errs: io.Discard, runDir: runDir}).orders(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	profiles, binding, err := parts.Offer(t.Context(), c, pebble.Directory)
	if err != nil || !binding || !slices.Contains(profiles, "shortlived") {
		t.Errorf("the CA offers %q, wants a binding: %v, %v", profiles, binding, err)
	}
	if bound, err := parts.Bound(c, pebble.Directory); err != nil || !bound {
		t.Errorf("bound: %v, %v", bound, err)
	}
	if hosts, err := parts.Hosts(t.Context()); err != nil || !slices.Equal(hosts, []string{"a.test", "b.test"}) {
		t.Errorf("hosts %q, %v", hosts, err)
	}
	if err := parts.Zone(t.Context(), c, "open.test=Z1"); err != nil {
		t.Error(err)
	}
	if err := parts.Zone(t.Context(), c, "closed.test=Z2"); err == nil || !strings.Contains(err.Error(), "allow route53:ChangeResourceRecordSets") {
		t.Errorf("without a permission: %v", err)
	}

	for _, at := range []string{"", "s3://" + simaws.DefaultBucket + "/nagaya"} {
		c.Certs.Store = at
		if err := parts.Store(c).Check(t.Context()); err != nil {
			t.Errorf("store %q: %v", at, err)
		}
	}
	s := parts.Store(c)
	all := []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "route53:ListResourceRecordSets", "route53:ChangeResourceRecordSets"}
	for i, missing := range all {
		if err := cloud.SetAllow(simaws.DefaultInstance, slices.Delete(slices.Clone(all), i, i+1)); err != nil {
			t.Fatal(err)
		}
		_, err := s.List(t.Context(), "certs/")
		err = errors.Join(err, s.Check(t.Context()), parts.Zone(t.Context(), c, "open.test=Z1"))
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	if err := cloud.SetAllow(simaws.DefaultInstance, all); err != nil {
		t.Fatal(err)
	}

	// What is imported goes to a bucket too.
	source := filepath.Join(t.TempDir(), "x.pem")
	for name, text := range map[string]string{source: pemOf(t, "good.test", 60), filepath.Join(c.StateDir, "nagaya.yaml"): "certs: {store: \"" + c.Certs.Store + "\"}\nrun-dir: " + t.TempDir() + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1 imported; the store is s3://", "1 not needed; the store is s3://"} {
		if r := nagaya(t, "--config", filepath.Join(c.StateDir, "nagaya.yaml"), "certs", "import", source); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("code %d, %s%s; want %s", r.code, r.out, r.errs, want)
		}
	}
}
