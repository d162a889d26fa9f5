package box

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// ordered is the host whose certificate is ordered: the operator has none for it.
const ordered = "ordered.test"

// TestOrdersOutliveTheInstance hands a host over whose certificate was ordered, and replaces its instance
// twice: there is one order in all.
func TestOrdersOutliveTheInstance(t *testing.T) {
	s := free(t)
	const bucket = "box-orders"
	must(t, s.Cloud.AddBucket(simaws.BucketSpec{Name: bucket}))
	at, err := s.VPC.AddHost(netip.MustParseAddr("198.51.100.7"))
	must(t, err)
	t.Cleanup(func() { _ = s.VPC.Remove(at) })
	ca := testenv.StartPebble(t, testenv.PebbleOptions{Address: "198.51.100.7", HTTPPort: 80, Within: at.Do})
	ca.SetDefaultAddress(t, simaws.DefaultPublicIP)
	roots, err := os.ReadFile(ca.Roots)
	must(t, err)
	var settings strings.Builder
	for name, value := range map[string]string{"ACME_EMAIL": "ops@example.com", "ACME_DIRECTORY": ca.Directory, "ACME_CA_FILE": "/etc/roots.pem", "ACME_CHECK_ADDRESS": "false", "STORE": "s3://" + bucket + "/x"} {
		fmt.Fprintf(&settings, "Environment=NAGAYA_CERTS_%s=%s\n", name, value)
	}
	n := 0
	boot := func() *machine {
		n++
		return launch(t, s, Launch{
			Spec: simaws.InstanceSpec{
				LaunchTime: time.Now().Add(time.Duration(n-9) * time.Hour), UserData: firstBoot(t),
				Tags: map[string]string{"nagaya:address-claim": "tag:Name=nagaya", "nagaya:address-policy": "standby", "nagaya:address-every": "1s"},
			},
			Files: map[string]File{
				PackageFile: deb(t, newer()), "/etc/roots.pem": {Content: roots},
				"/etc/systemd/system/nagaya.service.d/orders.conf": Text("[Service]\n" + settings.String()),
			},
			Tasks: map[string][]string{"alpha": Task("alpha", ordered)},
		})
	}
	first := boot()
	holds(t, s, first)
	client := func() *http.Client {
		c, err := stage.Trusting(ca.Issuer, func(ctx context.Context, port string) (net.Conn, error) {
			return s.VPC.Dial(ctx, "tcp", net.JoinHostPort(simaws.DefaultPublicIP, port))
		})
		must(t, err)
		return c
	}
	until(t, "the host has HTTPS", func() error { return visit(client(), ordered) })
	first.shows("it was ordered once", func(st report.Status) bool { return st.Orders.Orders[certs.Issued] == 1 })

	handOver := func(from, to *machine) {
		t.Helper()
		to.shows("the host is live", func(st report.Status) bool {
			return len(st.Routes.LiveHosts()) == 1 && st.Nginx.Settled && len(st.Certs.Issued) == 1
		})
		fresh, kept := client(), client()
		fresh.Transport.(*http.Transport).DisableKeepAlives = true
		load := stage.StartVisits(t.Context(), 200, func(n int) *http.Client {
			if n%2 == 1 {
				return fresh
			}
			return kept
		}, "https://"+ordered+"/")
		from.do("nagaya", "leave")
		holds(t, s, to)
		st := to.shows("it knows", func(st report.Status) bool { return st.Address.Held() })
		if met := load.Stop(); met.Failed > 0 || met.Requests == 0 {
			t.Errorf("%d of %d requests failed, the first: %s", met.Failed, met.Requests, met.First)
		}
		if n := st.Orders.Orders[certs.Issued]; n > 0 {
			t.Errorf("%d orders for a handover", n)
		}
	}
	second := boot()
	handOver(first, second)
	must(t, first.PowerOff(t.Context()))

	// What comes in its place has nothing but the store.
	third := boot()
	plain := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.VPC.Dial(ctx, "tcp", netip.AddrPortFrom(third.Private, 80).String())
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	until(t, "the host is redirected to HTTPS", func() error {
		resp, err := plain.Get("http://" + ordered + "/")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.Header.Get("X-Household") != "" {
			t.Error("the host was served over plain HTTP")
		}
		if resp.StatusCode/100 != 3 {
			return errors.New(resp.Status)
		}
		return nil
	})
	handOver(second, third)
	if n := len(s.Cloud.Objects(bucket)); n == 0 {
		t.Error("the bucket is empty")
	}
}
