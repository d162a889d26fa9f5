package examine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// stored is a store with one certificate, that fails as the test wants.
type stored struct{ list, check error }

func (s stored) List(context.Context, string) (map[string]string, error) {
	return map[string]string{"certs/a": "1"}, s.list
}

func (s stored) Check(context.Context) error { return s.check }

// ordering is a configuration with ACME.
func ordering(change func(*config.Certs)) config.Config {
	c := config.Default()
	c.Certs.ACME.Email = "ops@example.com"
	c.Certs.Store = "s3://bucket/nagaya"
	if change != nil {
		change(&c.Certs)
	}
	return c
}

var errDenied = fmt.Errorf("no: %w", &smithy.GenericAPIError{Code: "AccessDenied", Message: "Access Denied"})

func TestOrders(t *testing.T) {
	healthy := Orders{
		Offer: func(context.Context, config.Config, string) ([]string, bool, error) {
			return []string{"classic", "shortlived"}, false, nil
		},
		Bound: func(config.Config, string) (bool, error) { return false, nil },
		Store: func(config.Config) Store { return stored{} },
		Zone:  func(context.Context, config.Config, string) error { return nil },
		Hosts: func(context.Context) ([]string, error) { return nil, ErrNoAgent },
	}
	store := func(s stored) func(*Orders) {
		return func(parts *Orders) {
			parts.Store = func(config.Config) Store { return s }
		}
	}
	refused := &certs.StoreError{Text: "s3:PutObject on s3://bucket/nagaya/: refused", Remedy: "allow it", Err: errDenied}
	zoned := func(c *config.Certs) { c.ACME.Zones = []string{"example.com=Z1"} }
	for name, row := range map[string]struct {
		config func(*config.Certs)
		parts  func(*Orders)
		want   string // findings with their levels
		remedy string
	}{
		"healthy":         {nil, nil, "ok acme-ca https://acme-v02.api.letsencrypt.org/directory answers; ok certs-store s3://bucket/nagaya can be read and written, and has 1 certificate", ""},
		"off":             {func(c *config.Certs) { c.ACME.Email = "" }, nil, "", ""},
		"profile":         {func(c *config.Certs) { c.ACME.Profile = "shortlived" }, nil, "offers the profile shortlived", ""},
		"no such profile": {func(c *config.Certs) { c.ACME.Profile = "x" }, nil, "fail acme-ca https://acme-v02.api.letsencrypt.org/directory does not offer the profile x", `["classic" "shortlived"]`},
		"CA away": {nil, func(o *Orders) {
			o.Offer = func(context.Context, config.Config, string) ([]string, bool, error) {
				return nil, false, errors.New("no\nroute")
			}
		}, "fail acme-ca no route", "certs.acme.ca-file"},
		"binding": {nil, func(o *Orders) {
			o.Offer = func(context.Context, config.Config, string) ([]string, bool, error) { return nil, true, nil }
		}, "wants an external account binding", "certs.acme.eab-file"},
		"binding file": {nil, func(o *Orders) {
			o.Bound = func(config.Config, string) (bool, error) { return false, errors.New("line 1") }
		}, "fail acme-ca line 1", "certs.acme.eab-file"},
		"disk alone":   {func(c *config.Certs) { c.Store = "" }, nil, "warn certs-store the store is on this instance's disk alone, so the next instance orders again what it has: 1 certificate", "bucket"},
		"may not list": {nil, store(stored{list: refused}), "fail certs-store s3:PutObject on s3://bucket/nagaya/: refused", "allow it"},
		"may not put":  {nil, store(stored{check: refused}), "fail certs-store s3:PutObject on s3://bucket/nagaya/: refused", "allow it"},
		"conflicts":    {nil, store(stored{check: certs.ErrConflict}), "fail certs-store another writer was first", "certs.store"},
		"zone":         {zoned, nil, "ok dns-zone records of _acme-challenge in example.com=Z1 can be seen and changed", ""},
		"may not change": {zoned, func(o *Orders) {
			o.Zone = func(context.Context, config.Config, string) error { return errDenied }
		}, "fail dns-zone no: ", "ProveNamesByRecords"},
		"no such zone": {zoned, func(o *Orders) {
			o.Zone = func(context.Context, config.Config, string) error { return errors.New("NoSuchHostedZone") }
		}, "fail dns-zone NoSuchHostedZone", "certs.acme.zones"},
	} {
		t.Run(name, func(t *testing.T) {
			parts := healthy
			if row.parts != nil {
				row.parts(&parts)
			}
			x := &examination{Parts: Parts{Orders: parts}, config: ordering(row.config)}
			x.orders(t.Context())
			var lines, remedies []string
			for _, f := range x.Findings {
				lines = append(lines, fmt.Sprintf("%s %s %s", f.Level, f.Check, f.Text))
				remedies = append(remedies, f.Remedy)
			}
			all := strings.Join(lines, "; ")
			if !strings.Contains(all, row.want) || row.want == "" && all != "" || !strings.Contains(strings.Join(remedies, " "), row.remedy) {
				t.Errorf("%s\n%q", all, remedies)
			}
		})
	}
}

// Hosts are asked for a file that only this instance has, which is gone afterwards.
func TestHostsLeadHere(t *testing.T) {
	c := ordering(nil)
	c.StateDir = t.TempDir()
	dir := nginx.TokenDir(nginx.StateDir(c))
	at := filepath.Join(dir, ".well-known", "acme-challenge")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	here := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer here.Close()
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	redirects := httptest.NewServer(http.RedirectHandler(here.URL, http.StatusFound))
	defer redirects.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	addr := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	x := &examination{config: c, Parts: Parts{Orders: Orders{
		Hosts: func(context.Context) ([]string, error) {
			return []string{"*.a.test", addr(here), addr(elsewhere), addr(redirects), l.Addr().String()}, nil
		},
	}}}
	x.hosts(t.Context())
	var doubts []string
	for _, f := range x.Findings {
		if f.Level == doctor.Warn {
			doubts = append(doubts, f.Text)
		} else if f.Text != "hosts that get certificates, lead here and answer at port 80: 1" {
			t.Errorf("%+v", f)
		}
	}
	if len(doubts) != 3 || !strings.Contains(doubts[0], "another server answers 404") || !strings.Contains(doubts[1], "another server answers 302") || !strings.Contains(doubts[2], "refused") {
		t.Errorf("%q", doubts)
	}
	if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	c.StateDir += "/none"
	x = &examination{config: c, Parts: Parts{Orders: Orders{
		Hosts: func(context.Context) ([]string, error) { return []string{"a.test"}, nil },
	}}}
	x.hosts(t.Context())
	want(t, "without a directory", x.Findings, doctor.Warn, "was not tried", "root")
}
