// Package demo plays the main job of nagaya on a stage: every step is announced
// in a line and shown with the real output of the real programs.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// The hosts of the demonstration, and who claims the address.
const (
	shop  = "shop.test"
	wiki  = "wiki.test"
	vault = "vault.test"

	claim = "tag:Name=nagaya"
)

// config makes the agent look at CloudWatch every second and the gate think an
// hour ahead: nobody wants to watch a demonstration for half a day.
const config = `
address: {claim: "` + claim + `"}
credit: {cloudwatch: 1s, every: 1s}
gate: {reserve: 10, horizon: 1h, dwell: 1s}
`

// Options say how the demonstration is played.
type Options struct {
	// Bin is the directory of the programs.
	Bin string
	// Keep leaves everything running at the end.
	Keep bool
	Out  io.Writer
	// After is called after each step with its number; an error ends the play. May be nil.
	After func(ctx context.Context, s *stage.Stage, step int) error
}

// step is one scene.
type step struct {
	title string
	play  func(*player, context.Context) error
}

var steps = []step{
	{"the simulated cloud starts: IMDSv2, EC2, CloudWatch, ECS and Batch, each an HTTP endpoint of its own", (*player).cloudStarts},
	{"the agent starts, reads its identity and claims the Elastic IP", (*player).agentStarts},
	{"three services start in Docker; nginx serves them by host name over HTTPS", (*player).servicesStart},
	{"one service is replaced by a new version under load", (*player).serviceIsReplaced},
	{"two hostile containers and a broken one start; the others stay up", (*player).strangersCome},
	{"a batch waits at the gate, is let in when there are credits, runs and is accounted", (*player).batchRuns},
}

// player carries the play from step to step.
type player struct {
	s    *stage.Stage
	out  io.Writer
	keep bool
	// page is the address of the page and the metrics.
	page string
	// published is when the first balance was published.
	published time.Time
}

// Play plays all steps. Whatever was started is taken away again unless it is to
// be kept, also when a step fails or ctx ends.
func Play(ctx context.Context, o Options) (err error) {
	begun := time.Now()
	port, _, err := stage.FreePorts()
	if err != nil {
		return err
	}
	page := fmt.Sprintf("127.0.0.1:%d", port)
	s, err := stage.New(ctx, stage.Options{Bin: o.Bin, Hosts: Hosts(), Config: config + fmt.Sprintf("metrics: {listen: %q}\n", page)})
	if err != nil {
		return err
	}
	p := &player{s: s, out: o.Out, keep: o.Keep, page: page}
	defer func() {
		if o.Keep && err == nil {
			err = p.sayHowToLookAround()
			return
		}
		if err != nil {
			fmt.Fprintf(p.out, "\nthe end of the agent's log:\n%s", tail(s.AgentLog(), 30))
		}
		err = errors.Join(err, p.takeAway())
		if err == nil {
			fmt.Fprintf(p.out, "\nThat was all, in %s.\n", time.Since(begun).Round(time.Second))
		}
	}()
	if err := p.sayWhatIsHere(ctx); err != nil {
		return err
	}
	for i, one := range steps {
		fmt.Fprintf(p.out, "\n━━ %d. %s\n", i+1, one.title)
		if err := one.play(p, ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, one.title, err)
		}
		if o.After != nil {
			if err := o.After(ctx, s, i+1); err != nil {
				return fmt.Errorf("after step %d: %w", i+1, err)
			}
		}
	}
	return nil
}

// Steps is the number of steps.
func Steps() int { return len(steps) }

// Hosts are the host names that are served from step 3 on.
func Hosts() []string { return []string{shop, wiki, vault} }

func (p *player) sayWhatIsHere(ctx context.Context) error {
	v, err := p.s.Docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "nginx", "-v").CombinedOutput()
	if err != nil {
		return fmt.Errorf("nginx -v: %w", err)
	}
	fmt.Fprintf(p.out, "A pretend ECS container instance in %s: Docker %s, %s", p.s.Dir, v.Version, out)
	return nil
}

// say writes a remark of the demonstration itself.
func (p *player) say(format string, args ...any) {
	fmt.Fprintf(p.out, "   "+format+"\n", args...)
}

// show writes a command line and what it printed.
func (p *player) show(command, output string) {
	fmt.Fprintf(p.out, "\n   $ %s\n", command)
	for line := range strings.Lines(output) {
		fmt.Fprintf(p.out, "   %s\n", strings.TrimRight(line, "\n"))
	}
}

// nagaya runs the program as an operator would, and shows it.
func (p *player) nagaya(ctx context.Context, args ...string) (string, error) {
	out, code, err := p.s.CLI(ctx, args...)
	if err != nil {
		return out, err
	}
	p.show("nagaya "+strings.Join(args, " "), out)
	if code != 0 {
		return out, fmt.Errorf("nagaya %s: exit code %d", strings.Join(args, " "), code)
	}
	return out, nil
}

// curl asks a host at the stage's nginx, and shows it. What is the same in every
// call is shown as three dots.
func (p *player) curl(ctx context.Context, url string, more ...string) (string, error) {
	port := fmt.Sprint(p.s.HTTPSPort)
	if strings.HasPrefix(url, "http:") {
		port = fmt.Sprint(p.s.HTTPPort)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), "/")
	full := strings.Replace(url, host, host+":"+port, 1)
	args := append([]string{"-sS", "--max-time", "10", "--cacert", p.s.CAFile(), "--resolve", host + ":" + port + ":127.0.0.1"}, more...)
	out, err := exec.CommandContext(ctx, "curl", append(args, full)...).CombinedOutput()
	p.show(strings.Join(append(append([]string{"curl … "}, more...), url), " "), strings.ReplaceAll(string(out), "\r", ""))
	if err != nil {
		return string(out), fmt.Errorf("curl %s: %w", url, err)
	}
	return string(out), nil
}

func (p *player) takeAway() error {
	fmt.Fprintf(p.out, "\n━━ %d. everything is taken away again\n", len(steps)+1)
	return p.s.Close()
}

func (p *player) sayHowToLookAround() error {
	if err := p.s.Keep(); err != nil {
		return err
	}
	fmt.Fprintf(p.out, `
━━ %d. everything is left running (KEEP=1)

Look around:

   export NAGAYA_CONFIG=%s
   bin/nagaya status
   bin/nagaya top
   bin/nagaya routes
   bin/nagaya routes --traffic
   bin/nagaya credits
   bin/nagaya history
   http://%s/ in a browser here
   curl --cacert %s --resolve %s:%d:127.0.0.1 https://%s:%d/
   tail -f %s

End it:

   bin/nagaya-sim demo --end %s
`, len(steps)+1, p.s.ConfigFile(), p.page, p.s.CAFile(), shop, p.s.HTTPSPort, shop, p.s.HTTPSPort, p.s.Path("log", "agent.log"), p.s.Dir)
	return nil
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
