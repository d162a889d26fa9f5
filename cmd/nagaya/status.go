package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

// client returns a client of the agent on this host.
func (c *cli) client() *socket.Client { return socket.Dial(c.socket()) }

// socket is where the agent answers.
func (c *cli) socket() string { return filepath.Join(c.socketDir(), "nagaya.sock") }

func (c *cli) socketDir() string {
	if c.runDir != "" {
		return c.runDir
	}
	return c.agentConfig().RunDir
}

// status asks the agent what it knows.
func (c *cli) status(cmd *cobra.Command) (report.Status, error) {
	s, err := c.client().Status(cmd.Context())
	return s, c.explain(err)
}

// explain gives an agent that does not answer its own exit code and a hint.
func (c *cli) explain(err error) error {
	if !errors.Is(err, socket.ErrNoAgent) {
		return err
	}
	hint := "is it running? 'systemctl status nagaya', or 'journalctl -u nagaya -e'"
	if errors.Is(err, fs.ErrPermission) {
		hint = "ask as root (sudo), or as a member of the group " + groupOf(c.socket()) + ", in a login after becoming one"
	}
	if c.configErr != nil {
		err = fmt.Errorf("%w\n  the configuration cannot be used, so the default socket was tried: %w", err, c.configErr)
		hint = "correct that, or name the directory of the socket with --run-dir"
	}
	return &exitError{code: exitNoAgent, err: hinted(err, hint)}
}

// groupOf names the group of a file.
func groupOf(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return "of its socket"
	}
	gid := strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}

// print prints text for people, or v as JSON.
func (c *cli) print(v any, text string) error {
	if !c.asJSON {
		_, err := io.WriteString(c.out, text)
		return err
	}
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// width is how many columns the terminal has to which it writes; 0 where it is none.
func (c *cli) width() int {
	f, ok := c.out.(*os.File)
	if !ok {
		return 0
	}
	columns, _ := sizeOf(f)
	return columns
}

// verdict prints v and exits with 1 if it is a failure.
func (c *cli) verdict(v any, text string, failed bool) error {
	err := c.print(v, text)
	if err == nil && failed {
		err = &exitError{code: exitNo}
	}
	return err
}

// addJSON gives a verb the flag --json.
func (c *cli) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON")
}

// view returns a part of the status, as a value and for people.
type view func(report.Status) (part any, text string, err error)

// viewVerb makes a verb that asks something of the agent, where do is not nil, and shows one
// part of its status.
func (c *cli) viewVerb(cmd *cobra.Command, do func(cmd *cobra.Command, args []string) error, show view) *cobra.Command {
	if cmd.Args == nil {
		cmd.Args = noArgs
	}
	c.addRunDir(cmd)
	c.addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if do != nil {
			if err := do(cmd, args); err != nil {
				return c.explain(err)
			}
		}
		s, err := c.status(cmd)
		if err != nil {
			return err
		}
		part, text, err := show(s)
		if err != nil {
			return err
		}
		return c.print(part, text)
	}
	return cmd
}

func (c *cli) statusVerb() *cobra.Command {
	return c.viewVerb(&cobra.Command{
		Use: "status", Short: "Show the state of the agent, and what is wrong",
		Long: `Status shows one line for each subject, then every standing problem with its
remedy. It exits with 0 whatever the problems are; scripts read them with --json.`,
	}, nil, func(s report.Status) (any, string, error) { return s, s.Text(), nil })
}

func (c *cli) routesVerb() *cobra.Command {
	var explain, served bool
	since := ""
	cmd := c.viewVerb(&cobra.Command{
		Use: "routes", Short: "Show which host goes to which container",
		Long: `Routes shows one line for each server behind each path of each host, and for each
container that should be behind one and is not, with the reason. At a terminal long names are
cut to its width; --json has them whole.

With --explain it also names the containers that run and have no route at all, and
why.

With --traffic it shows what each host and path has served since the agent started,
by nginx's access log: requests by status, those for which a container did not answer
(FAILED), bytes, and how long answers took (95 % of them at most that). OPEN are the
connections that are open to its containers now. A host that is logged elsewhere has a
file of yours that says access_log. With --since too it shows
what was recorded: a minute at a time for two hours, five minutes for a day, an hour
for a month and a day for a year. That needs no running agent.`,
		Example: "  nagaya routes --traffic --since 7d",
	}, nil, func(s report.Status) (any, string, error) {
		switch {
		case served:
			return s.Traffic, s.Traffic.Text(s.At.Local(), c.width()), nil
		case explain:
			return s.Routes, s.Routes.Explained(c.width()), nil
		}
		return s.Routes, s.Routes.Text(c.width()), nil
	})
	cmd.Flags().BoolVar(&served, "traffic", false, "show what each host and path has served")
	cmd.Flags().BoolVar(&explain, "explain", false, "also show why every other running container has no route")
	cmd.Flags().StringVar(&since, "since", "", "with --traffic, show what was recorded in this time: a number with m, h, d or w, such as 7d")
	now := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case served && explain:
			return usage(errors.New("--traffic and --explain show two things; give one"))
		case !cmd.Flags().Changed("since"):
			return now(cmd, args)
		case !served:
			return usage(errors.New("--since is for --traffic"))
		}
		return c.showPast(since, c.servedPast)
	}
	return cmd
}

func (c *cli) creditsVerb() *cobra.Command {
	since := ""
	cmd := c.viewVerb(&cobra.Command{
		Use: "credits", Short: "Show the CPU credits: balance, use, and the next day",
		Long: `Credits shows the balance as AWS keeps it, what services and batches spent, and
the balance of the last 24 hours and that to be expected in the next without further batches.

With --since it draws what was recorded: a minute at a time for two days, five minutes
for two weeks, and an hour for a year. That needs no running agent.`,
		Example: "  nagaya credits --since 7d",
	}, nil, func(s report.Status) (any, string, error) { return s.Credit, s.Credit.Text(s.At), nil })
	cmd.Flags().StringVar(&since, "since", "", "draw what was recorded in this time: a number with m, h, d or w, such as 7d")
	now := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("since") {
			return now(cmd, args)
		}
		return c.showPast(since, creditsPast)
	}
	return cmd
}

func (c *cli) reloadVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reload", Short: "Reload the configuration of the agent, and report whether it is right", Args: noArgs,
		Long: `Reload reports at once whether the configuration is right; without it a change of the
file is noticed too. When it ends the configuration is in force; nginx goes on serving,
and opens its logs again. A wrong configuration is refused, and what is wrong with it is
printed. Files of yours for nginx that have changed are read at once, and loaded when
nginx has tested them: 'nagaya status' names those that it refuses. So is the store of
certificates.

It exits with 0 when the configuration is in force, 2 when it is wrong, and 3 when no
agent answers. 'systemctl reload nagaya' does the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.client().Reload(cmd.Context())
			if errors.Is(err, socket.ErrNoAgent) {
				return c.explain(err)
			}
			if err != nil {
				return usage(fmt.Errorf("the configuration is wrong, and the one from before stays in force:\n%w", err))
			}
			_, err = fmt.Fprintln(c.out, "the configuration is in force; your own files for nginx are read, and 'nagaya status' names those that nginx refuses")
			return err
		},
	}
	c.addRunDir(cmd)
	return cmd
}
