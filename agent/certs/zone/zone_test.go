package zone

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// cloud is a simulated Route 53 and a client of it.
type cloud struct {
	*simaws.Cloud
	client *route53.Client
	zones  *Zones
}

func startCloud(t *testing.T, zones ...simaws.ZoneSpec) cloud {
	t.Helper()
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, z := range zones {
		if err := world.AddZone(z); err != nil {
			t.Fatal(err)
		}
		names = append(names, z.Name+"="+z.ID)
	}
	served, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { served.Close() })
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range served.Env(simaws.DefaultInstance) {
		t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("ap-northeast-1"), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	c := cloud{served, route53.NewFromConfig(cfg), nil}
	if c.zones, err = New(names, c.client); err != nil {
		t.Fatal(err)
	}
	return c
}

// put makes a record set that is not ours.
func (c cloud) put(t *testing.T, zone, name string, kind types.RRType, values ...string) {
	t.Helper()
	set := &types.ResourceRecordSet{Name: &name, Type: kind, TTL: aws.Int64(300)}
	for _, v := range values {
		set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	_, err := c.client.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{Action: types.ChangeActionCreate, ResourceRecordSet: set}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestValuesStandBesideOthers(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test"})
	const record = "_acme-challenge.shop.test"
	c.put(t, "Z1", record, types.RRTypeTxt, `"somebody's"`)
	c.put(t, "Z1", "_acme-challenge2.shop.test", types.RRTypeTxt, `"x"`)
	c.put(t, "Z1", record, types.RRTypeCaa, `0 issue "ca.test"`)
	for _, row := range []struct {
		what func() error
		want []string
	}{
		{func() error { return c.zones.Add(t.Context(), record, "one") }, []string{"somebody's", "one"}},
		{func() error { return c.zones.Add(t.Context(), record, "two") }, []string{"somebody's", "one", "two"}},
		{func() error { return c.zones.Add(t.Context(), record, "one") }, []string{"somebody's", "two", "one"}},
		{func() error { return c.zones.Remove(t.Context(), record, "two") }, []string{"somebody's", "one"}},
		{func() error { return c.zones.Remove(t.Context(), record, "two") }, []string{"somebody's", "one"}},
		{func() error { return c.zones.Remove(t.Context(), "_acme-challenge.none.shop.test", "two") }, []string{"somebody's", "one"}},
		{func() error { return c.zones.Remove(t.Context(), record, "one") }, []string{"somebody's"}},
	} {
		if err := row.what(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.want, c.Answers(record, "TXT")); diff != "" {
			t.Error(diff)
		}
	}
	const other = "_acme-challenge.www.shop.test"
	if err := c.zones.Add(t.Context(), strings.ToUpper(other[:1])+other[1:]+".", "one"); err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Records("Z1") {
		if r.Name == other+"." && (r.TTL != 60 || !slices.Equal(r.Values, []string{`"one"`})) {
			t.Errorf("it is %+v", r)
		}
	}
	if err := c.zones.Remove(t.Context(), other, "one"); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Records("Z1")); n != 3 {
		t.Errorf("%d record sets are left: %+v", n, c.Records("Z1"))
	}
	for _, no := range []string{"shop.test", "mail.shop.test"} { // an order of the store may name anything
		if c.zones.Add(t.Context(), no, "one") == nil || c.zones.Remove(t.Context(), no, "one") == nil {
			t.Errorf("%s was changed", no)
		}
	}
}

// Apex and wildcard have one record; so have orders of two agents.
func TestWritersAtOnce(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test"})
	const record, n = "_acme-challenge.shop.test", 8
	all := func(do func(value string) error) {
		t.Helper()
		var wait sync.WaitGroup
		for i := range n {
			wait.Go(func() {
				if err := do(fmt.Sprintf("value-%d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	all(func(v string) error { return c.zones.Add(t.Context(), record, v) })
	if got := c.Answers(record, "TXT"); len(got) != n {
		t.Errorf("there are %q", got)
	}
	all(func(v string) error {
		if v < "value-4" {
			return c.zones.Remove(t.Context(), record, v)
		}
		return c.zones.Add(t.Context(), record, v+"x")
	})
	if got := c.Answers(record, "TXT"); len(got) != n {
		t.Errorf("there are %q", got)
	}
	all(func(v string) error {
		if err := c.zones.Remove(t.Context(), record, v); err != nil {
			return err
		}
		return c.zones.Remove(t.Context(), record, v+"x")
	})
	if got := c.Records("Z1"); len(got) != 0 {
		t.Errorf("there are %+v", got)
	}
}

func TestAnswersThatAreLost(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test"})
	if _, err := c.AddFault(simaws.Fault{Service: "route53", Action: "ChangeResourceRecordSets", Code: "InternalFailure", Status: 500, Applied: true, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.zones.Add(t.Context(), "_acme-challenge.shop.test", "one"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one"}, c.Answers("_acme-challenge.shop.test", "TXT")); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsNameTheRemedy(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test", Changeable: []string{"_acme-challenge.*"}}, simaws.ZoneSpec{ID: "Z2", Name: "free.test"},
		simaws.ZoneSpec{ID: "Z3", Name: "closed.test", Changeable: []string{"www.*"}})
	c.put(t, "Z2", "_acme-challenge.free.test", types.RRTypeCname, "elsewhere.test")
	for id, name := range map[string]string{"ZNONE": "gone.test", "Z2": "wrong.test"} {
		c.zones.ids[name] = id
	}
	for _, row := range []struct{ record, value, want string }{
		{"_acme-challenge.other.test", "x", "in none of the zones"},
		{"_acme-challenge.shop.test", `x" "y`, "not base64url"},
		{"_acme-challenge.gone.test", "x", `there is no hosted zone ZNONE for gone.test in this account: correct its id: "NoSuchHostedZone" (`},
		{"_acme-challenge.closed.test", "x", "allow route53:ChangeResourceRecordSets for hosted zone Z3"},
		{"_acme-challenge.free.test", "x", "is a CNAME in zone free.test"},
		{"_acme-challenge.wrong.test", "x", "is not permitted in zone free.test"},
	} {
		if err := c.zones.Add(t.Context(), row.record, row.value); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.record, err)
		}
	}
}

func TestCovers(t *testing.T) {
	z, err := New([]string{"Shop.Test.=/hostedzone/Z1", "b.shop.test=Z2", "xn--wgv71a.test=Z3", "shop.test=Z1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"shop.test": "Z1", "*.shop.test": "Z1", "a.shop.test": "Z1", "A.Shop.Test.": "Z1", "b.shop.test": "Z2", "*.b.shop.test": "Z2", "x.y.b.shop.test": "Z2",
		"xn--wgv71a.test": "Z3", "badshop.test": "", "test": "", "": "", "192.0.2.1": "", "2001:db8::1": "",
	} {
		_, id, _ := z.of(strings.TrimPrefix(name, "*."))
		if id != want || z.Covers(name) != (want != "") {
			t.Errorf("%q is in %q, want %q", name, id, want)
		}
	}
	if _, err := New([]string{"shop.test=Z1", "SHOP.test=Z2"}, nil); err == nil {
		t.Error("two zones of one name are taken")
	}
}

func TestChangesAreWaitedFor(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test"})
	c.SetConditions(simaws.Conditions{ZoneChangeTakes: simaws.Duration(100 * time.Millisecond)})
	if err := c.zones.Add(t.Context(), "_acme-challenge.shop.test", "one"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one"}, c.Answers("_acme-challenge.shop.test", "TXT")); diff != "" {
		t.Error(diff)
	}
}
