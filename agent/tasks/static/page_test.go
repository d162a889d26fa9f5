package static

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// The page is a route like others if it has a host: over HTTPS only, for those alone who may see it.
func TestThePageIsARoute(t *testing.T) {
	c := config.Default()
	if o := Configured(c); len(o.Own) != 0 || o.Dir != c.Routes.Dir {
		t.Errorf("without a host: %+v", o)
	}
	lan := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, row := range []struct {
		name, dir, listen string
		page              config.Page
		want              route.Spec
		to                string
	}{
		{"a password", t.TempDir(), "127.0.0.1:9646", config.Page{Host: "status.example.com", Auth: "admins"}, route.Spec{Location: route.Location{Auth: "admins"}}, "127.0.0.1"},
		{"networks, and no files", "", "10.0.0.10:9646", config.Page{Host: "status.example.com", Allow: lan}, route.Spec{Location: route.Location{Allow: lan}}, "10.0.0.10"},
		{"both, everywhere", t.TempDir(), "0.0.0.0:9646", config.Page{Host: "status.example.com", Auth: "admins", Allow: lan[:1]}, route.Spec{Location: route.Location{Auth: "admins", Allow: lan[:1]}}, "127.0.0.1"},
		{"everywhere, by the other protocol", t.TempDir(), "[::]:9646", config.Page{Host: "status.example.com", Auth: "admins"}, route.Spec{Location: route.Location{Auth: "admins"}}, "127.0.0.1"},
	} {
		c.Routes.Dir, c.Metrics.Listen, c.Page = row.dir, row.listen, row.page
		got := make(chan tasks.Containers, 1)
		go func() { _ = Watch(t.Context(), Configured(c), func(v tasks.Containers) { got <- v }) }()
		v := <-got
		if !v.Complete || len(v.List) != 1 || v.List[0].Addrs[0].String() != row.to || v.List[0].Ref() != "page.host:nagaya-page" {
			t.Errorf("%s: %+v", row.name, v)
			continue
		}
		r := labels.Requests(v.List, labels.Configured(c), nil)[v.List[0].ID]
		row.want.Hosts, row.want.TLS, row.want.Port = []string{"status.example.com"}, route.TLSTerminate, 9646
		row.want.Path = "/"
		if len(r.Routes) != 1 || len(r.Problems) != 0 {
			t.Errorf("%s: %+v", row.name, r)
			continue
		}
		same := cmp.Options{
			cmpopts.IgnoreFields(route.Spec{}, "Weight", "Edge", "Cert", "ACME", "HTTPSOnly"),
			cmpopts.IgnoreFields(route.Location{}, "Balance", "BodySize", "Timeout", "Buffering", "Scheme", "Asked", "Keepalive"),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		}
		if d := cmp.Diff(row.want, r.Routes[0], same); d != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, d)
		}
	}
}
