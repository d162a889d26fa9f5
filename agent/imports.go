package agent

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs/imports"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/config"
)

// ImportCertificates brings the certificates that other programs keep at and below the paths into the
// store of the configuration; a dry run only says what it would do. The error wraps ErrConfig for a configuration that is wrong.
func ImportCertificates(ctx context.Context, o Options, paths []string, dry bool) (imports.Report, error) {
	o.Log = slog.New(slog.DiscardHandler)
	a := &agent{o: o}
	var err error
	if a.config, err = startConfig(o); err != nil {
		return imports.Report{}, err
	}
	if a.cloud, err = awsclient.New(ctx); err != nil {
		return imports.Report{}, err
	}
	c := a.config.Config()
	name, s, err := a.openStore(c)
	if err != nil {
		return imports.Report{}, err
	}
	return imports.Import(ctx, imports.Options{Paths: paths, Store: s, Name: name, Owner: c.StateDir, Dry: dry})
}

// openStore opens the store of certificates, and names it.
func (a *agent) openStore(c config.Config) (string, *store.Store, error) {
	at := cmp.Or(c.Certs.Store, statePath(c, "store"))
	s, err := store.Open(store.Options{Setting: at, KMSKey: c.Certs.StoreKey, S3: a.cloud.S3("")})
	return at, s, err
}
