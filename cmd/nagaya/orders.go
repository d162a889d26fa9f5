package main

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/config"
)

// regionPatience bounds how long instance metadata are asked for the Region; without it a bucket says its own.
const regionPatience = 3 * time.Second

// openStore opens the store of certificates, and names it.
func openStore(ctx context.Context, c config.Config, cloud *awsclient.Clients) (string, *store.Store, error) {
	at, region := cmp.Or(c.Certs.Store, filepath.Join(c.StateDir, "store")), ""
	if m := cloud.Metadata(c.IMDS); m != nil && cloud.Base.Region == "" && strings.HasPrefix(at, "s3://") {
		ctx, done := context.WithTimeout(ctx, regionPatience)
		defer done()
		if out, err := m.GetRegion(ctx, nil); err == nil {
			region = out.Region
		}
	}
	s, err := store.Open(store.Options{Setting: at, KMSKey: c.Certs.StoreKey, S3: cloud.S3(region)})
	return at, s, err
}
