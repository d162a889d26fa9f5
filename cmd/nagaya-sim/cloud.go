package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// cloudFlags are the flags of the verb cloud.
type cloudFlags struct {
	scenario  string
	localIPv4 string
	envFile   string
	ports     int
	metricLag time.Duration
	verbose   bool
}

func cloudVerb() *cobra.Command {
	var f cloudFlags
	c := &cobra.Command{
		Use:   "cloud",
		Short: "Serve the simulated cloud until it is interrupted",
		Long: "Serve IMDSv2, EC2, CloudWatch, ECS, AWS Batch, S3, Route 53 and the ECS agent of a scenario\n" +
			"on 127.0.0.1, and a control endpoint that changes it. Ends with SIGINT or SIGTERM.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serveCloud(c.Context(), f, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.scenario, "scenario", "default", "what is in the cloud: "+strings.Join(simaws.Scenarios(), ", "))
	flags.StringVar(&f.localIPv4, "local-ipv4", "", "private IPv4 address of this host (default 10.0.0.10)")
	flags.StringVar(&f.envFile, "env-file", "", "write the environment of this host to this `file`, for a shell to read")
	flags.IntVar(&f.ports, "ports", 0, "first of a row of fixed ports: EC2, CloudWatch, ECS, Batch, S3, Route 53, control, then IMDS and ECS agent of each instance (default free ports)")
	flags.DurationVar(&f.metricLag, "metric-lag", 3*time.Minute, "how long after its time stamp a CloudWatch datapoint can be read")
	flags.BoolVar(&f.verbose, "verbose", false, "log every request on standard error")
	return c
}

// serveCloud serves until ctx ends, which is no error.
func serveCloud(ctx context.Context, f cloudFlags, out, errOut io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	w := simaws.New(simaws.Options{Conditions: simaws.Conditions{MetricLag: simaws.Duration(f.metricLag)}})
	host, err := w.Populate(f.scenario, simaws.ScenarioOptions{LocalIPv4: f.localIPv4})
	if err != nil {
		return err
	}
	o := simaws.ServeOptions{BasePort: f.ports}
	if f.verbose {
		o.Log = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	cloud, err := simaws.Serve(w, o)
	if err != nil {
		return err
	}
	defer cloud.Close()
	if f.envFile != "" {
		if err := writeWhole(f.envFile, cloud.ShellEnv(host)); err != nil {
			return fmt.Errorf("--env-file: %w", err)
		}
	}
	describe(out, cloud, host, f.envFile)
	<-ctx.Done()
	return nil
}

func (f cloudFlags) check() error {
	switch {
	case f.ports < 0 || f.ports > 65000:
		return fmt.Errorf("--ports %d is not within 0 and 65000", f.ports)
	case f.metricLag < 0:
		return fmt.Errorf("--metric-lag %s is negative", f.metricLag)
	case f.localIPv4 != "" && net.ParseIP(f.localIPv4).To4() == nil:
		return fmt.Errorf("--local-ipv4 %q is not an IPv4 address", f.localIPv4)
	}
	return nil
}

// writeWhole puts the file there at once, so that a waiting reader never sees half of it.
func writeWhole(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if bad := f.Close(); err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// describe prints where everything is.
func describe(out io.Writer, cloud *simaws.Cloud, host, envFile string) {
	e, s := cloud.Endpoints(), cloud.State()
	fmt.Fprintf(out, "account %s, Region %s\n", s.AccountID, s.Region)
	for _, i := range s.Instances {
		note := ""
		if i.ID == host {
			note = ", this host"
		}
		fmt.Fprintf(out, "instance %s: %s, %s, private address %s%s\n", i.ID, i.Type, i.State, i.PrivateIPs[0], note)
	}
	for _, a := range s.Addresses {
		fmt.Fprintf(out, "Elastic IP %s: %s, tags %v\n", a.AllocationID, a.PublicIP, a.Tags)
	}
	rows := [][2]string{
		{"EC2", e.EC2},
		{"CloudWatch", e.CloudWatch},
		{"ECS", e.ECS},
		{"Batch", e.Batch},
		{"S3", e.S3},
		{"Route 53", e.Route53},
		{"IMDS", e.IMDS[host]},
		{"ECS agent", e.ECSAgent[host]},
		{"control", e.Control},
	}
	for _, r := range rows {
		fmt.Fprintf(out, "%-10s %s\n", r[0], r[1])
	}
	if envFile != "" {
		fmt.Fprintf(out, "environment written to %s\n", envFile)
	}
	fmt.Fprintln(out, "ready; end with Ctrl-C")
}
