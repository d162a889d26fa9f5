package agent

import (
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/certs/zone"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// openOrders adds to the options of orders what speaks with others.
func (a *agent) openOrders(c config.Config) func(o *order.Options, region string) error {
	return func(o *order.Options, region string) (err error) {
		o.Challenges, o.NewKey, o.NewRequest = nginx.TokenDir(nginx.StateDir(c)), acme.NewKey, acme.NewRequest
		o.Store = store.Open(store.Options{Setting: o.StoreName, KMSKey: c.Certs.StoreKey, S3: a.cloud.S3(), Region: a.cloud.Region})
		if len(c.Certs.ACME.Zones) > 0 {
			if o.DNS, err = zone.New(c.Certs.ACME.Zones, a.cloud.Route53(region)); err != nil {
				return err
			}
		}
		for _, d := range o.Settings.All() {
			if o.CAs[d], err = acme.New(acme.Options{Directory: d, RootsFile: c.Certs.ACME.CAFile, UserAgent: "nagaya/" + a.o.Version, Log: a.o.Log}); err != nil {
				return err
			}
		}
		return nil
	}
}
