package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

func TestCerts(t *testing.T) {
	now := time.Now()
	file := certs.Pair{Name: "own", CertFile: "/c/own.crt", DNSNames: []string{"*.own.test"}, NotBefore: now, NotAfter: now.Add(240 * time.Hour)}
	p := &pretended{status: report.Status{
		At: now, Certs: certs.Inventory{Complete: true, At: now, Pairs: []certs.Pair{file}},
		Routes: route.Table{Complete: true, Shape: route.Shape{Sites: []route.Site{{Host: "a.own.test", TLS: true, Cert: file}}}},
	}}
	dir := answers(t, p)
	if got := nagaya(t, "certs", "--run-dir", dir); got.code != exitOK || !strings.Contains(got.out, "\na.own.test  *.own.test") || !strings.Contains(got.out, "nothing is ordered") {
		t.Errorf("without ACME: exit %d, %s%s", got.code, got.out, got.errs)
	}
	p.status.Orders = certs.Report{On: true, StoreRead: true, Entries: []certs.Entry{
		{ID: "a.test.P256", Hosts: []string{"a.test"}, Names: []string{"a.test"}, Source: "acme", State: certs.Valid, NotAfter: now.Add(1000 * time.Hour)},
		{ID: "b.test.P256", Hosts: []string{"b.test"}, Names: []string{"b.test"}, Source: "acme", State: certs.Waiting, Reason: "the name leads elsewhere"},
		{Hosts: []string{}, Names: []string{"*.own.test"}, Source: "file", File: "/c/own.crt", State: certs.Valid},
	}}
	got := nagaya(t, "certs", "--run-dir", dir)
	if got.code != exitOK || strings.Count(got.out, "\n") != 4 || !strings.Contains(got.out, "the name leads elsewhere") || !strings.Contains(got.out, "\na.own.test") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.errs)
	}
	var r certs.Report
	got = nagaya(t, "certs", "--json", "--run-dir", dir)
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || len(r.Entries) != 3 || r.Entries[1].State != certs.Waiting {
		t.Errorf("%v, %s", err, got.out)
	}

	got = nagaya(t, "certs", "renew", "A.test.", "--run-dir", dir)
	if got.code != exitOK || !slices.Equal(p.renewed, []string{"a.test"}) || strings.Contains(got.out, "b.test") || !strings.Contains(got.out, "a.test") {
		t.Errorf("renew: exit %d, asked for %v, %s%s", got.code, p.renewed, got.out, got.errs)
	}
	if got := nagaya(t, "certs", "renew", "~^x", "--run-dir", dir); got.code != exitUsage || len(p.renewed) != 1 {
		t.Errorf("renew of no host: exit %d, %s", got.code, got.errs)
	}
	if got := nagaya(t, "certs", "renew", "--run-dir", dir); got.code != exitUsage {
		t.Errorf("renew of nothing: exit %d, %s", got.code, got.errs)
	}
	p.refusal = errors.New("nothing is ordered: certs.acme.email is not set")
	if got := nagaya(t, "certs", "renew", "a.test", "--run-dir", dir); got.code != exitNo || !strings.Contains(got.errs, "certs.acme.email is not set") || !strings.Contains(got.errs, "hint:") || got.out != "" {
		t.Errorf("a refused renewal: exit %d, %q, %q", got.code, got.out, got.errs)
	}
	if got := nagaya(t, "__complete", "certs", "renew", "--run-dir", dir, ""); !strings.Contains(got.out, "b.test") {
		t.Errorf("completion: %s", got.out)
	}
}
