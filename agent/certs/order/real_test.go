package order

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/certs/zone"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// dyingDNS is of an agent that is killed as soon as it has made its records.
type dyingDNS struct {
	DNS
	added chan struct{}
}

func (d dyingDNS) Add(ctx context.Context, record, value string) error {
	if err := d.DNS.Add(ctx, record, value); err != nil {
		return err
	}
	d.added <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (d dyingDNS) Remove(context.Context, string, string) error { return errDead }

// The parts themselves, with Pebble, S3 and Route 53 over their real protocols: apex and wildcard by
// DNS. The agent is killed when it has made the TXT records, and the next goes on.
func TestWithTheRealParts(t *testing.T) {
	w := simaws.New(simaws.Options{})
	if _, err := w.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.AddZone(simaws.ZoneSpec{ID: "Z1", Name: "shop.test", Changeable: []string{"_acme-challenge.*"}}); err != nil {
		t.Fatal(err)
	}
	cloud, err := simaws.Serve(w, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cloud.Close() })
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range cloud.Env(simaws.DefaultInstance) {
		t.Setenv(k, v)
	}
	clients, err := awsclient.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := testenv.ServeNames(t, cloud.Answers)
	p := testenv.StartPebble(t, testenv.PebbleOptions{Names: names})

	start := func(owner string, wrap func(DNS) DNS) (dir string, report func() certs.Report, stop func()) {
		o := Options{
			Settings: certs.Settings{ACME: config.ACME{Email: "ops@example.com", Directories: []string{p.Directory}}, Seed: owner},
			Owner:    owner, Issued: filepath.Join(t.TempDir(), "issued"), Challenges: t.TempDir(), StoreName: "s3", CAs: map[string]CA{},
			NewKey: acme.NewKey, NewRequest: acme.NewRequest, Claimed: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
				return nil, errors.New("none is looked up")
			},
		}
		o.Store = store.Open(store.Options{Setting: "s3://" + simaws.DefaultBucket + "/x", S3: clients.S3(), Region: clients.Region})
		zones, err := zone.New([]string{"shop.test=Z1"}, clients.Route53(cloud.Region()))
		if err != nil {
			t.Fatal(err)
		}
		o.DNS = wrap(zones)
		if o.CAs[p.Directory], err = acme.New(acme.Options{Directory: p.Directory, RootsFile: p.Roots, UserAgent: "nagaya/test", Log: o.Log}); err != nil {
			t.Fatal(err)
		}
		in, reports := NewInputs(), make(chan certs.Report, 100)
		in.Wishes.Put([]certs.Wish{{Host: "shop.test", Family: "ecs:s", Names: []string{"*.shop.test", "shop.test"}}})
		in.Files.Put(certs.Inventory{Complete: true})
		in.Serving.Put(true)
		in.Address.Put(address.Report{ClaimStatus: address.ClaimStatus{Claim: "x", Known: true, Address: address.Address{PublicIP: public}, Holder: address.Holder{Kind: address.Other}}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = run(ctx, o, in, Outputs{Ready: func() {}, Report: func(r certs.Report) {
				select {
				case reports <- r:
				default:
				}
			}}, identity.Instance{})
		}()
		stop = func() { cancel(); <-ended }
		t.Cleanup(stop)
		return o.Issued, func() certs.Report { return <-reports }, stop
	}
	added := make(chan struct{})
	_, _, kill := start("first", func(d DNS) DNS { return dyingDNS{d, added} })
	<-added
	<-added
	kill()
	if n := len(cloud.Records("Z1")); n == 0 {
		t.Fatal("the killed agent has left no record")
	}
	removed := make(chan struct{}, 100)
	dir, report, _ := start("first", func(d DNS) DNS { return tellingDNS{d, removed} })
	for done := false; !done; {
		r := report()
		for _, problem := range r.Problems {
			t.Fatalf("problem %+v", problem)
		}
		done = len(r.Entries) == 1 && !slices.ContainsFunc(r.Entries, func(e certs.Entry) bool { return e.State != certs.Valid })
	}
	if all := readLocal(dir); len(all) != 1 {
		t.Errorf("%d certificates, want 1", len(all))
	}
	for len(cloud.Records("Z1")) > 0 { // the certificate is served before they are taken away
		<-removed
	}
}

// tellingDNS tells of each value that it has removed.
type tellingDNS struct {
	DNS
	removed chan<- struct{}
}

func (d tellingDNS) Remove(ctx context.Context, record, value string) error {
	err := d.DNS.Remove(ctx, record, value)
	d.removed <- struct{}{}
	return err
}
