package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/systemd"
)

const (
	// memoryLimit is in bytes: the machine has half a GiB.
	memoryLimit = 64 << 20
	// garbage is how much of it there may be until it is collected, in percent of what is in use. Go's 100 takes
	// 2 MiB more, and saves 0.02 % of a core.
	garbage = 50
	// startTakes is when the start is over, which takes more memory than all that follows.
	startTakes = 20 * time.Second
)

func (c *cli) agentVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "agent", Short: "Run the agent",
		Long: `Agent runs until it gets SIGTERM or SIGINT. SIGHUP reads the configuration again;
a change of the file is also noticed by itself. Every setting may be given as a flag.

It logs to the journal where systemd runs it, else to stderr. A socket that systemd
opened for it (sd_listen_fds) is used if it is the one of run-dir.`,
		Example: "  nagaya agent --address-claim eipalloc-0123456789abcdef0",
	}
	return c.settingsVerb(cmd, runAgent)
}

func runAgent(ctx context.Context, o agent.Options) (err error) {
	// One processor is plenty, and an idle agent is mostly wake-ups: with more,
	// each of them wakes a second thread to look whether there is work for it.
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(garbage)
	o.Level = new(slog.LevelVar)
	o.Fields = new(systemd.Fields)
	lines := systemd.NewRepeats(systemd.NewHandler(os.Stderr, systemd.JournalOptions{
		Level: o.Level, Also: event.Journald(), Fields: o.Fields,
	}), event.Abouts())
	defer lines.Flush()
	o.Notes = keep.NewNotes()
	o.Log = slog.New(o.Notes.Handler(lines))
	release := time.AfterFunc(startTakes, func() {
		if err := releaseMemory(); err != nil {
			o.Log.Debug("memory of the start kept", "err", err)
		}
	})
	defer release.Stop()
	if o.Notify, err = systemd.NewNotifier(); err != nil {
		o.Log.Warn("no watchdog", event.Key, event.WatchdogAbsent, "err", err)
	}
	o.Sockets = systemd.InheritedSockets()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	o.Reload = hup
	begun := time.Now()
	o.Log.Info("agent starts", event.Key, event.AgentStarted, "version", o.Version, "pid", os.Getpid(), "file", o.Config.File)
	err = agent.Run(ctx, o)
	o.Log.Info("agent ends", event.Key, event.AgentStopped, "after", time.Since(begun).Round(time.Second).String(), "err", err)
	if err := o.Notes.Flush(); err != nil {
		o.Log.Debug("the end is not in the history", "err", err)
	}
	return err
}

// settingsVerb gives a verb a flag for every setting; do gets the options that these and the
// environment make.
func (c *cli) settingsVerb(cmd *cobra.Command, do func(context.Context, agent.Options) error) *cobra.Command {
	given := c.addSettings(cmd)
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := c.sources(given())
		if err != nil {
			return usage(err)
		}
		if err = do(cmd.Context(), agent.Options{Config: s, Version: versionText()}); errors.Is(err, agent.ErrConfig) {
			return usage(err)
		}
		return err
	}
	return cmd
}

func (c *cli) checkVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check", Short: "Validate the configuration and the host without touching anything",
		Long: `Check reads the configuration, looks at Docker, the certificates and the containers
once, renders nginx's configuration and lets nginx test it in a scratch directory.
It is the agent's own path, stopped before the swap.

It exits with 0 when there is no error (warnings are printed), 1 when there is one,
and 2 when the configuration itself is wrong.`,
	}
	c.addJSON(cmd)
	return c.settingsVerb(cmd, func(ctx context.Context, o agent.Options) error {
		p, err := agent.MakePreview(ctx, o, true)
		if err != nil {
			return err
		}
		failed := slices.ContainsFunc(p.Problems, func(one problem.Problem) bool { return one.Severity == problem.Error })
		return c.verdict(struct {
			Hosts    int               `json:"hosts"`
			Problems []problem.Problem `json:"problems"`
		}{len(p.Table.Sites), p.Problems}, checkText(p), failed)
	})
}

func checkText(p agent.Preview) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %s live; nginx was asked\n", len(p.Table.LiveHosts()), problem.Counted(len(p.Table.Sites), "host"))
	for _, one := range p.Problems {
		fmt.Fprintf(&b, "%-8s %s: %s (%s)\n         → %s\n", one.Severity, one.Subject, one.Text, one.Code, one.Hint)
	}
	return b.String()
}

func (c *cli) doctorVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Prove every permission and precondition on this host, changing nothing",
		Long: `Doctor checks, in this order, the configuration (where that is wrong), instance metadata and how it may be read, the way to
EC2's API, the claimed addresses and every permission in AWS (by a dry run), Docker,
the ECS agent, nginx, the distribution's nginx.service, the ports, the certificates, what
ordering them needs (the CAs, the store, the hosted zones, whether hosts lead here), the
clock, the directories and their space, cgroups, the credit mode and the journal. Each
check is ok, warn or FAIL, with what to do about it. All that it writes is an object of its
own in the store, and for a moment a file that hosts are asked for.

It exits with 0 when nothing failed (warnings are printed), 1 when something did, and 2
when the configuration itself is wrong: that is named then, and what depends on it examined with its default. Run it as root, which may read everything; what
the agent's own user may not is in the first check, while the agent runs.`,
	}
	c.addJSON(cmd)
	return c.settingsVerb(cmd, func(ctx context.Context, o agent.Options) error {
		orders, err := c.orders(ctx)
		if err != nil {
			return err
		}
		r, err := agent.Examine(ctx, o, orders)
		if err != nil && !errors.Is(err, agent.ErrConfig) {
			return err
		}
		if verdict := c.verdict(r, r.Text(), r.Count(doctor.Fail) > 0); err == nil {
			return verdict
		}
		return &exitError{code: exitUsage}
	})
}

func (c *cli) renderVerb() *cobra.Command {
	return c.settingsVerb(&cobra.Command{
		Use: "render", Short: "Print the nginx configuration that would be written now",
		Long: `Render looks at Docker, the certificates and the containers once and prints every
file of the configuration. Nothing is written and nginx is not asked; problems go
to stderr.`,
	}, func(ctx context.Context, o agent.Options) error {
		p, err := agent.MakePreview(ctx, o, false)
		if err != nil {
			return err
		}
		for _, one := range p.Problems {
			fmt.Fprintf(c.errs, "%s: %s: %s\n", one.Severity, one.Subject, one.Text)
		}
		_, err = fmt.Fprint(c.out, p.Tree.String())
		return err
	})
}
