package order

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// Keep orders and keeps certificates until ctx ends, as soon as there are all options of the configuration. open adds what speaks with others: the
// store, the CAs of Settings.All and the zones, for an instance in the Region. What cannot be is tried again.
func Keep(ctx context.Context, c config.Config, log *slog.Logger, open func(o *Options, region string) error, in Inputs, out Outputs) error {
	var here identity.Identity
	select {
	case here = <-in.Identity.C():
	case <-time.After(identityPatience):
	case <-ctx.Done():
	}
	var o Options
	if backoff.Retry(ctx, openEvery, func() (err error) {
		if o, err = configured(c, here.Instance.ID); err == nil {
			err = open(&o, cmp.Or(here.Instance.Region, "us-east-1")) // there a bucket's own Region is found
		}
		if err != nil {
			out.Ready()
			const hint = "correct what it names; until then nothing is ordered, and what was issued is served"
			p := problem.Of("agent", "orders-impossible", hint, "%s", problem.Printable(err.Error(), 400))
			out.Report(certs.Report{At: time.Now(), On: true, Problems: []problem.Problem{p}})
		}
		return err
	}) != nil {
		return nil
	}
	o.Log = log
	return run(ctx, o, in, out, here.Instance)
}

const (
	identityPatience = 5 * time.Second
	openEvery        = 30 * time.Second
)

// configured are the options that follow from the configuration and its files alone, for an instance.
func configured(c config.Config, instance string) (o Options, err error) {
	o = Options{
		Issued: IssuedDir(c), StoreName: StoreName(c), Lookup: net.DefaultResolver.LookupNetIP,
		CAs: map[string]CA{}, Claimed: len(c.Address.Claim) > 0, Metadata: c.IMDS,
	}
	if o.Owner, err = readOwner(filepath.Join(c.StateDir, "owner")); err != nil {
		return o, err
	}
	if instance != "" { // the file may be in an image that many instances are made of
		o.Owner += "." + instance
	}
	o.Settings = certs.Settings{ACME: c.Certs.ACME, Seed: o.Owner}
	o.Binding = func(directory string) (certs.Binding, error) { // read again: the operator may have corrected it
		all, err := ReadBindings(c.Certs.ACME.EABFile)
		return all[directory], err
	}
	_, err = o.Binding("") // so that it is known before it is needed
	return o, err
}

// IssuedDir is the directory of the local copy.
func IssuedDir(c config.Config) string { return filepath.Join(c.StateDir, "issued") }

// StoreName is where the certificates are kept: what the operator set, else a directory of this instance.
func StoreName(c config.Config) string {
	return cmp.Or(c.Certs.Store, filepath.Join(c.StateDir, "store"))
}

var ownerForm = pattern.Of(40, `[A-Z2-7]{20,}`)

// readOwner returns what the file has for Options.Owner, and makes it at the first start.
func readOwner(file string) (string, error) {
	text, err := readfile.Regular(file, 256)
	if owner := strings.TrimSpace(string(text)); err == nil && ownerForm.MatchString(owner) {
		return owner, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading who orders certificates: %w", err)
	}
	owner := rand.Text()
	if err := atomicfile.Write(file, []byte(owner+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing who orders certificates: %w", err)
	}
	return owner, nil
}

// ReadBindings reads external account bindings, a line for each CA: DIRECTORY KEY-ID MAC-KEY. Lines that are empty or
// begin with # count for nothing. No file is none.
func ReadBindings(file string) (map[string]certs.Binding, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readfile.Regular(file, certs.MaxObject)
	if err != nil {
		return nil, fmt.Errorf("certs.acme.eab-file: %w", err)
	}
	all := map[string]certs.Binding{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) != 3 || !strings.HasPrefix(words[0], "https://") {
			return nil, fmt.Errorf("certs.acme.eab-file: line %d of %s is not DIRECTORY KEY-ID MAC-KEY", n, file)
		}
		all[words[0]] = certs.Binding{KeyID: words[1], MACKey: words[2]}
	}
	return all, nil
}
