package zone

import (
	"sync"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// Two agents order a certificate for apex and wildcard at once: four values are in one record, and none is left.
func TestApexAndWildcard(t *testing.T) {
	c := startCloud(t, simaws.ZoneSpec{ID: "Z1", Name: "shop.test", Changeable: []string{"_acme-challenge.*"}})
	p := testenv.StartPebble(t, testenv.PebbleOptions{Names: testenv.ServeNames(t, c.Answers)})
	order := func() error {
		ca, err := acme.New(acme.Options{Directory: p.Directory, RootsFile: p.Roots, UserAgent: "nagaya/test"})
		if err != nil {
			return err
		}
		var keys [2]string // of the account and of the certificate
		for i := range keys {
			if keys[i], err = acme.NewKey(certs.ECDSA); err != nil {
				return err
			}
		}
		names := []string{"*.shop.test", "shop.test"}
		csr, err := acme.NewRequest(keys[1], names)
		if err != nil {
			return err
		}
		a, err := ca.Register(t.Context(), certs.Account{Directory: p.Directory, Key: keys[0]}, certs.Binding{})
		if err != nil {
			return err
		}
		pending, err := ca.Begin(t.Context(), a, certs.Order{Names: names}, func(string) []string { return []string{certs.DNS01} })
		if err != nil {
			return err
		}
		for _, ch := range pending.Challenges {
			if err := c.zones.Add(t.Context(), ch.Record, ch.Value); err != nil {
				return err
			}
		}
		if _, err := ca.Finish(t.Context(), a, pending, csr); err != nil {
			return err
		}
		for _, ch := range pending.Challenges {
			if err := c.zones.Remove(t.Context(), ch.Record, ch.Value); err != nil {
				return err
			}
		}
		return nil
	}
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			if err := order(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if left := c.Records("Z1"); len(left) > 0 {
		t.Errorf("there are %+v", left)
	}
}
