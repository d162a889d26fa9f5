package main

import (
	"context"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/certs/zone"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctor/examine"
	"github.com/nagaya-ecs/nagaya/agent/proc"
)

// openStore opens the store of certificates, and names it.
func openStore(c config.Config, cloud *awsclient.Clients) (string, *store.Store) {
	at := order.StoreName(c)
	return at, store.Open(store.Options{Setting: at, KMSKey: c.Certs.StoreKey, S3: cloud.S3(), Region: cloud.Region})
}

// ownedStore is written in the name of who has the state directory: what root wrote in its own name
// the agent could not read.
type ownedStore struct {
	*store.Store
	owner string
}

func (s ownedStore) Check(ctx context.Context) error {
	return proc.AsOwnerOf(s.owner, func() error { return s.Store.Check(ctx) })
}

// orders is how an examination asks what certificates need that are ordered.
func (c *cli) orders(ctx context.Context) (examine.Orders, error) {
	cloud, err := awsclient.New(ctx)
	if err != nil {
		return examine.Orders{}, err
	}
	return examine.Orders{
		Offer: func(ctx context.Context, c config.Config, directory string) ([]string, bool, error) {
			ca, err := acme.New(acme.Options{Directory: directory, RootsFile: c.Certs.ACME.CAFile, UserAgent: "nagaya/" + versionText()})
			if err != nil {
				return nil, false, err
			}
			return ca.Offer(ctx)
		},
		Bound: func(c config.Config, directory string) (bool, error) {
			all, err := order.ReadBindings(c.Certs.ACME.EABFile)
			_, ok := all[directory]
			return ok, err
		},
		Store: func(c config.Config) examine.Store {
			_, s := openStore(c, cloud)
			return ownedStore{s, c.StateDir}
		},
		Zone: func(ctx context.Context, c config.Config, text string) error {
			zones, err := zone.New([]string{text}, cloud.Route53("us-east-1"))
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(text, "=")
			return zones.Try(ctx, name)
		},
		Hosts: func(ctx context.Context) ([]string, error) {
			s, err := c.client().Status(ctx)
			return orderedHosts(s), err
		},
	}, nil
}
