package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/imports"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func (c *cli) certsImportVerb() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "import PATH...", Short: "Bring certificates of certbot, acme.sh, nginx-acme or Traefik into the store",
		Long: `Import reads the files at and below each PATH, finds the certificates in them by what
they contain, and writes those that can be used into the store (certs.store) with their
keys. It knows certbot's directory (/etc/letsencrypt), those of acme.sh (~/.acme.sh) and
of nginx-acme (state_path), Traefik's acme.json with all its resolvers, and any PEM files.

It says of each certificate what is done with it, and why it is left out: it has expired,
its key is not there, a newer one is in the store, or its names are none of hosts. Nothing
is removed, and a valid certificate that was issued later is never replaced. A running agent
takes what is new at once; it need not run. What is in the store is served where ACME is on
(certs.acme.email).

It exits with 0 when all that can be used is in the store, and 1 when something that is
valid was left out, could not be read or written, or when nothing was found.`,
		Example: "  nagaya certs import --dry-run /etc/letsencrypt\n  nagaya certs import /srv/traefik/acme.json",
		Args:    takes(1, math.MaxInt, "the files or directories to read"),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	c.addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		r, err := c.resolve()
		if err != nil {
			return usage(err)
		}
		cloud, err := awsclient.New(cmd.Context())
		if err != nil {
			return err
		}
		name, s := openStore(r.Config, cloud)
		done, err := imports.Import(cmd.Context(), imports.Options{Paths: paths, Save: saves(s, dry), Name: name, Owner: r.Config.StateDir, Dry: dry})
		if err != nil {
			return err
		}
		if r.Config.Certs.ACME.Email == "" {
			c.note("certs.acme.email is not set; the store is read, and what is in it served and renewed, once it is")
		}
		if done.Count(imports.Imported) > 0 {
			if err := c.client().Reload(cmd.Context()); err != nil && !errors.Is(err, socket.ErrNoAgent) {
				c.note("the agent was not told, and takes them within five minutes: %v", err)
			}
		}
		return c.verdict(done, importText(done), done.Failed())
	}
	return cmd
}

// saves brings certificates into the store; in a dry run it writes nothing.
func saves(s order.Store, dry bool) func(context.Context, certs.Bundle) (certs.Bundle, error) {
	if dry {
		s = unwritten{s}
	}
	return func(ctx context.Context, b certs.Bundle) (certs.Bundle, error) {
		there, _, err := order.Save(ctx, s, b, time.Now())
		return there, err
	}
}

// unwritten is a store that nobody writes to.
type unwritten struct{ order.Store }

func (unwritten) Put(context.Context, string, []byte, string) (string, error) { return "", nil }

// importText is what was done, for people.
func importText(r imports.Report) string {
	var b strings.Builder
	words := map[imports.Outcome]string{
		imports.Imported: "imported", imports.Wanted: "would be imported", imports.Present: "not needed", imports.LeftOut: "left out", imports.Failed: "FAILED",
	}
	for _, one := range r.Certificates {
		names := strings.Join(one.Names, ", ")
		if names == "" {
			names = "(no names)"
		}
		fmt.Fprintf(&b, "%-17s  %s\n", words[one.Outcome], problem.Printable(names, 200))
		fmt.Fprintf(&b, "%19s%s: %s, valid until %s\n", "", one.Program, problem.Printable(one.File, 300), one.NotAfter.Format(time.DateOnly))
		if one.Note != "" {
			fmt.Fprintf(&b, "%19s→ %s\n", "", problem.Printable(one.Note, 300))
		}
	}
	for _, w := range r.Unread {
		fmt.Fprintf(&b, "%-17s  %s\n", "not read", w)
	}
	counts := ""
	for _, o := range []imports.Outcome{imports.Imported, imports.Wanted, imports.Present, imports.LeftOut, imports.Failed} {
		if n := r.Count(o); n > 0 {
			counts += fmt.Sprintf(", %d %s", n, words[o])
		}
	}
	fmt.Fprintf(&b, "\n%s found%s; the store is %s\n", problem.Counted(len(r.Certificates), "certificate"), counts, r.Store)
	return strings.TrimPrefix(b.String(), "\n")
}
