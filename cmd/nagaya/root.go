package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// cli is what every verb needs from the outside.
type cli struct {
	out, errs  io.Writer
	configFile string
	runDir     string
	asJSON     bool
	settings   *pflag.FlagSet // one flag for each
	parsed     bool           // the command line was understood, and its verb runs
	configErr  error          // why the socket of the configuration was not used
}

const defaultConfig = "/etc/nagaya/nagaya.yaml"

// spareEnv lists the variables that begin with NAGAYA_ and are no settings.
var spareEnv = []string{"NAGAYA_CONFIG"}

// run is the whole program but for signals and the process's exit.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	c := &cli{out: out, errs: errs}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	fixCobraVerbs(root)
	err := root.ExecuteContext(ctx)
	if _, ours := errors.AsType[*exitError](err); err != nil && !c.parsed && !ours { // cobra's own, such as an unknown verb
		err = usage(hinted(errors.New(strings.TrimSpace(err.Error())), "see --help"))
	}
	if err != nil && err.Error() != "" {
		c.note("%v", err)
	}
	return exitCode(err)
}

// fixCobraVerbs makes the verbs that cobra brings along, help and completion,
// refuse what they do not know; by themselves they print their help and succeed.
func fixCobraVerbs(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.RunE = func(cmd *cobra.Command, words []string) error {
				about, rest, err := cmd.Root().Find(words)
				if err != nil || len(rest) > 0 {
					return usage(fmt.Errorf("there is no verb %q", strings.Join(words, " ")))
				}
				about.InitDefaultHelpFlag()
				return about.Help()
			}
		}
	}
}

// note prints a line beside the output proper.
func (c *cli) note(format string, args ...any) {
	fmt.Fprintf(c.errs, "nagaya: "+format+"\n", args...)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "nagaya",
		Short: "One burstable instance, many small services and nightly batches",
		Long: `nagaya lives on an ECS container instance. It claims the instance's Elastic IP,
routes host names to the tasks that run here through an nginx of its own, and
lets batches run when the CPU credits that services leave over allow it.

Exit codes: 0 yes or done, 1 no or failed, 2 wrong usage or configuration,
3 the agent does not answer.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionText(),
	}
	root.PersistentPreRun = func(*cobra.Command, []string) { c.parsed = true }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usage(hinted(plainly(err), "see --help"))
	})
	root.PersistentFlags().StringVar(&c.configFile, "config", cmp.Or(os.Getenv("NAGAYA_CONFIG"), defaultConfig), "configuration file ($NAGAYA_CONFIG)")
	root.AddCommand(
		c.agentVerb(), c.statusVerb(), c.topVerb(), c.routesVerb(), c.certsVerb(), c.creditsVerb(), c.historyVerb(), c.gateVerb(), c.addressVerb(), c.leaveVerb(), c.reloadVerb(), c.simulateVerb(), c.planVerb(),
		c.checkVerb(), c.doctorVerb(), c.renderVerb(), c.configVerb(), c.manVerb(root), c.versionVerb(),
	)
	return root
}

// plainly says of a value that is no number or time what it should be, instead of what Go's parser says.
func plainly(err error) error {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	kinds := map[string]string{"float64": "a number", "int": "a whole number", "duration": "a time such as 90s, 30m or 8h"}
	if kind := kinds[wrong.GetFlag().Value.Type()]; kind != "" {
		return fmt.Errorf("--%s: %q is not %s", wrong.GetFlag().Name, wrong.GetValue(), kind)
	}
	return err
}

// takes makes a check of how many arguments a verb gets; what says which.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(fmt.Errorf("an argument is missing: %s", what))
		case len(args) > most:
			return usage(fmt.Errorf("unexpected argument %q: takes %s", args[most], what))
		}
		return nil
	}
}

var noArgs = takes(0, 0, "none")

func (c *cli) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(c.out, "nagaya", versionText())
			return err
		},
	}
}

func (c *cli) manVerb(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory",
		Example: "  nagaya man /usr/local/share/man/man1",
		Args:    takes(1, 1, "the directory to write to"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			// A fixed date: the same program makes the same pages.
			day := time.Unix(0, 0).UTC()
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "nagaya", Manual: "nagaya", Date: &day}, args[0])
		},
	}
}

func (c *cli) configVerb() *cobra.Command {
	var defaults bool
	cmd := &cobra.Command{
		Use: "config", Short: "Print the configuration in force, or all defaults with their meaning", Args: noArgs,
		Long: `Without --default, config prints every setting as the file, the environment and
the defaults make it on this host, with its origin. Instance tags are not read.

With --default it prints the file that documents every setting.`,
		RunE: func(*cobra.Command, []string) error {
			if defaults {
				_, err := io.WriteString(c.out, defaultFile())
				return err
			}
			r, err := c.resolve()
			if err != nil {
				return usage(err)
			}
			for _, s := range config.Settings {
				value := cmp.Or(strings.Join(s.Get(r.Config), ", "), `""`)
				fmt.Fprintf(c.out, "%-34s %-40s %s\n", s.Path, value, cmp.Or(r.From[s.Path], "default"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&defaults, "default", false, "print every setting with its meaning, allowed values and default, commented out")
	return cmd
}

// defaultFile is the configuration file that packages install.
func defaultFile() string {
	return `# The configuration of nagaya. Every setting is shown with its default, commented
# out; remove the # to change it. A change is picked up when the file is saved;
# 'nagaya check' reports whether it is right.
#
# Each setting may also come from a flag (--routes-timeout), the environment
# (NAGAYA_ROUTES_TIMEOUT) or, for some, an instance tag (nagaya:routes-timeout). The order
# is: flag, environment, file, tag, default.

` + config.YAML(config.Default(), true, true)
}

// addSettings gives a verb one flag for every setting and returns a function
// that collects those that were given. All verbs share the flags: only one of them runs.
func (c *cli) addSettings(cmd *cobra.Command) func() []config.Value {
	if c.settings == nil {
		c.settings = pflag.NewFlagSet("settings", pflag.ContinueOnError)
		for _, s := range config.Settings {
			c.settings.String(s.Flag(), "", s.Doc)
			if s.Bool {
				c.settings.Lookup(s.Flag()).NoOptDefVal = "true"
			}
		}
	}
	cmd.Flags().AddFlagSet(c.settings)
	for _, s := range config.Settings {
		if s.Words != nil { // refused from the second verb on, which has the same flag
			_ = cmd.RegisterFlagCompletionFunc(s.Flag(), cobra.FixedCompletions(s.Words, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	return func() []config.Value {
		var given []config.Value
		for _, s := range config.Settings {
			if f := cmd.Flags().Lookup(s.Flag()); f.Changed {
				given = append(given, config.FromFlag(s, f.Value.String()))
			}
		}
		return given
	}
}

// completes offers words of the running agent's status for a first argument.
func (c *cli) completes(words func(report.Status) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		s, err := c.client().Status(cmd.Context())
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(s), cobra.ShellCompDirectiveNoFileComp
	}
}

// sources are what the configuration is read from, with these flags.
func (c *cli) sources(flags []config.Value) (load.Sources, error) {
	env, err := config.FromEnv(os.Environ(), spareEnv...)
	return load.Sources{File: c.configFile, Required: c.configFile != defaultConfig, Env: env, Overlay: overlay, Flags: flags}, err
}

// resolve reads the configuration as it is without flags and instance tags.
func (c *cli) resolve() (config.Resolved, error) {
	s, err := c.sources(nil)
	if err != nil {
		return config.Resolved{}, err
	}
	r, _, err := s.Resolve(nil)
	return r, err
}

// addRunDir gives a verb that talks to the agent the flag for where that is.
func (c *cli) addRunDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.runDir, "run-dir", "", "directory of the agent's socket (default: as configured)")
}

// agentConfig is the configuration for verbs that talk to the agent. Mistakes in it must
// not keep an operator from asking the agent about them: the defaults count then, and the
// directory of the environment.
func (c *cli) agentConfig() config.Config {
	r, err := c.resolve()
	if c.configErr = err; err != nil {
		r.Config = config.Default()
		r.Config.RunDir = cmp.Or(os.Getenv("NAGAYA_RUN_DIR"), r.Config.RunDir)
	}
	return r.Config
}

// overlay lays values over the defaults, and over what nginx-proxy's variables say where
// these count.
func overlay(layers ...[]config.Value) (config.Resolved, error) {
	return nginxproxy.Resolve(os.Environ(), layers...)
}
