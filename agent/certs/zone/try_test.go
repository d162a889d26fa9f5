package zone

import (
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// A try needs the permissions of an order, and leaves the zone as it is.
func TestTry(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test", Changeable: []string{"_acme-challenge.*"}}, simaws.ZoneSpec{ID: "Z2", Name: "closed.test", Changeable: []string{"www.*"}})
	if err := c.zones.Try(t.Context(), "shop.test"); err != nil {
		t.Error(err)
	}
	if got := c.Records("Z1"); len(got) > 0 {
		t.Errorf("the zone has %+v", got)
	}
	if err := c.zones.Try(t.Context(), "other.test"); err == nil || !strings.Contains(err.Error(), "none of the zones") {
		t.Error(err)
	}
	if err := c.zones.Try(t.Context(), "closed.test"); !awserror.Denied(err) || !strings.Contains(err.Error(), "allow route53:ChangeResourceRecordSets") {
		t.Errorf("without a permission to change: %v", err)
	}
	if _, err := c.AddFault(simaws.Fault{Service: "route53", Action: "ListResourceRecordSets", Code: "AccessDenied", Status: 403, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.zones.Try(t.Context(), "shop.test"); !awserror.Denied(err) || !strings.Contains(err.Error(), "allow route53:ListResourceRecordSets") {
		t.Errorf("without a permission to list: %v", err)
	}
}
