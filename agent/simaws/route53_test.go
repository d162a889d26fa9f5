package simaws_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// change is one change of a TXT record of the default zone.
func change(action types.ChangeAction, name string, ttl int64, values ...string) types.Change {
	r := &types.ResourceRecordSet{Name: &name, Type: types.RRTypeTxt, TTL: &ttl}
	for _, v := range values {
		r.ResourceRecords = append(r.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	return types.Change{Action: action, ResourceRecordSet: r}
}

func submit(t *testing.T, client *route53.Client, changes ...types.Change) (id string, err error) {
	t.Helper()
	out, err := client.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: aws.String("/hostedzone/" + simaws.DefaultZone),
		ChangeBatch:  &types.ChangeBatch{Changes: changes},
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ChangeInfo.Id), nil
}

func TestChangesOfRecords(t *testing.T) {
	const create, upsert, remove = types.ChangeActionCreate, types.ChangeActionUpsert, types.ChangeActionDelete
	txt := func(name string, ttl int64, values ...string) simaws.Record {
		return simaws.Record{Name: name, Type: "TXT", TTL: ttl, Values: values}
	}
	c := serve(t, newHand())
	client := route53.NewFromConfig(sdkOn(t, c, host))
	for _, row := range []struct {
		name    string
		changes []types.Change
		code    string
		want    []simaws.Record
	}{
		{"a new one", []types.Change{change(create, "_acme-challenge.Example.com", 60, `"a"`)}, "", []simaws.Record{txt("_acme-challenge.example.com.", 60, `"a"`)}},
		{"it exists", []types.Change{change(create, "_acme-challenge.example.com.", 60, `"b"`)}, "InvalidChangeBatch", nil},
		{"another value beside it", []types.Change{change(upsert, "_acme-challenge.example.com", 60, `"a"`, `"b"`)}, "", []simaws.Record{txt("_acme-challenge.example.com.", 60, `"a"`, `"b"`)}},
		{"a value that was never there", []types.Change{change(remove, "_acme-challenge.example.com", 60, `"c"`)}, "InvalidChangeBatch", nil},
		{"only one of the values", []types.Change{change(remove, "_acme-challenge.example.com", 60, `"a"`)}, "InvalidChangeBatch", nil},
		{"another TTL", []types.Change{change(remove, "_acme-challenge.example.com", 30, `"a"`, `"b"`)}, "InvalidChangeBatch", nil},
		{"one that is not there", []types.Change{change(remove, "none.example.com", 60, `"a"`)}, "InvalidChangeBatch", nil},
		{"all or nothing", []types.Change{change(create, "x.example.com", 60, `"x"`), change(remove, "none.example.com", 60, `"a"`)}, "InvalidChangeBatch", nil},
		{"a name of another zone", []types.Change{change(create, "x.example.org", 60, `"x"`)}, "InvalidChangeBatch", nil},
		{"a name that only ends like the zone", []types.Change{change(create, "badexample.com", 60, `"x"`)}, "InvalidChangeBatch", nil},
		{"a value without quotation marks", []types.Change{change(create, "x.example.com", 60, `x`)}, "InvalidChangeBatch", nil},
		{"the same value twice", []types.Change{change(create, "x.example.com", 60, `"x"`, `"x"`)}, "InvalidChangeBatch", nil},
		{"values in another order", []types.Change{change(remove, "_acme-challenge.example.com", 60, `"b"`, `"a"`)}, "", []simaws.Record{}},
		{"removed and made in one batch", []types.Change{change(create, "y.example.com", 60, `"y"`), change(remove, "y.example.com", 60, `"y"`)}, "", []simaws.Record{}},
	} {
		before := c.Records(simaws.DefaultZone)
		_, err := submit(t, client, row.changes...)
		t.Log(row.name, err)
		wantCode(t, err, row.code)
		if row.code != "" {
			row.want = before
		}
		if d := cmp.Diff(row.want, c.Records(simaws.DefaultZone)); d != "" {
			t.Errorf("%s: %s", row.name, d)
		}
	}
	_, err := client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: aws.String("ZNONE")})
	wantCode(t, err, "NoSuchHostedZone")
	_, err = client.GetChange(t.Context(), &route53.GetChangeInput{Id: aws.String("CNONE")})
	wantCode(t, err, "NoSuchChange")
}

// Name servers answer a change when Route 53 says that it is in sync.
func TestChangesTakeTime(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	c.SetConditions(simaws.Conditions{ZoneChangeTakes: simaws.Duration(30 * time.Second)})
	client := route53.NewFromConfig(sdkOn(t, c, host))
	id, err := submit(t, client, change(types.ChangeActionCreate, "_acme-challenge.example.com", 60, `"a"`))
	must(t, err)
	want := func(status types.ChangeStatus, answers ...string) {
		t.Helper()
		out, err := client.GetChange(t.Context(), &route53.GetChangeInput{Id: &id})
		must(t, err)
		if out.ChangeInfo.Status != status {
			t.Errorf("status %s, want %s", out.ChangeInfo.Status, status)
		}
		if d := cmp.Diff(answers, c.Answers("_acme-challenge.EXAMPLE.com", "TXT")); d != "" {
			t.Error(d)
		}
	}
	want(types.ChangeStatusPending)
	clock.move(30 * time.Second)
	want(types.ChangeStatusInsync, "a")
}

func TestListOfRecords(t *testing.T) {
	c := serve(t, newHand())
	client := route53.NewFromConfig(sdkOn(t, c, host))
	for _, name := range []string{"b.example.com", "*.example.com", "a.b.example.com", "example.com"} {
		_, err := submit(t, client, change(types.ChangeActionCreate, name, 60, `"x"`, `"y"`))
		must(t, err)
	}
	list := func(in route53.ListResourceRecordSetsInput) (names []string) {
		t.Helper()
		in.HostedZoneId = aws.String(simaws.DefaultZone)
		for {
			out, err := client.ListResourceRecordSets(t.Context(), &in)
			must(t, err)
			for _, r := range out.ResourceRecordSets {
				names = append(names, *r.Name)
				if len(r.ResourceRecords) != 2 || *r.ResourceRecords[1].Value != `"y"` {
					t.Errorf("%s has %d values", *r.Name, len(r.ResourceRecords))
				}
			}
			if !out.IsTruncated {
				return names
			}
			in.StartRecordName, in.StartRecordType = out.NextRecordName, out.NextRecordType
		}
	}
	if d := cmp.Diff([]string{"example.com.", `\052.example.com.`, "b.example.com.", "a.b.example.com."}, list(route53.ListResourceRecordSetsInput{MaxItems: aws.Int32(1)})); d != "" {
		t.Error(d)
	}
	from := route53.ListResourceRecordSetsInput{StartRecordName: aws.String("B.example.com"), StartRecordType: types.RRTypeTxt}
	if d := cmp.Diff([]string{"b.example.com.", "a.b.example.com."}, list(from)); d != "" {
		t.Error(d)
	}
}

func TestLimitsOfRoute53(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.AddZone(simaws.ZoneSpec{ID: "ZNARROW", Name: "narrow.test", Changeable: []string{"_acme-challenge.*"}}))
	client := route53.NewFromConfig(sdkOn(t, c, host))
	for name, code := range map[string]string{"_acme-challenge.narrow.test": "", "www.narrow.test": "AccessDenied"} {
		_, err := client.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{
			HostedZoneId: aws.String("ZNARROW"),
			ChangeBatch:  &types.ChangeBatch{Changes: []types.Change{change(types.ChangeActionCreate, name, 60, `"x"`)}},
		})
		wantCode(t, err, code)
	}
	must(t, c.SetAllow(host, []string{"route53:GetChange"}))
	_, err := submit(t, client, change(types.ChangeActionCreate, "x.example.com", 60, `"x"`))
	wantCode(t, err, "AccessDenied")
	must(t, c.SetAllow(host, nil))
	c.SetConditions(simaws.Conditions{Throttling: true})
	for n := range 6 {
		_, err = submit(t, client, change(types.ChangeActionCreate, fmt.Sprintf("n%d.example.com", n), 60, `"x"`))
	}
	wantCode(t, err, "Throttling")
}
