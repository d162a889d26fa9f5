package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// RoutesOptions say what of the routes is measured and how.
type RoutesOptions struct {
	// Bin is the directory of the programs.
	Bin string
	// Nginx is the binary that the agent runs; empty is the one in PATH.
	Nginx string
	// Peers is the directory of the programs that nagaya is compared with; empty
	// measures nagaya alone.
	Peers string
	// Only names the parts to be measured, by letter; empty is all of them.
	Only []string
	// Quick takes fewer samples.
	Quick bool
	// JSON prints the rows as JSON instead of the table.
	JSON bool
	// Out gets the result, Progress one line for each step.
	Out, Progress io.Writer
}

// part is one question that is measured on stages of its own.
type part struct {
	letter, title string
	measure       func(*bench, context.Context) error
}

func parts() []part {
	return []part{
		{"a", "a container starts", (*bench).starts},
		{"b", "rolling replacements", (*bench).replacements},
		{"c", "the only container is stopped", (*bench).lastStop},
		{"d", "many containers start", (*bench).burst},
		{"e", "POSTs on kept connections through reloads", (*bench).posts},
		{"f", "one change among many TLS sites", (*bench).many},
		{"g", "the Docker API goes away", (*bench).outages},
		{"h", "hostile and broken containers", (*bench).hostiles},
		{"i", "two ways to a published port", (*bench).ways},
		{"j", "a container starts, beside the peers", (*bench).startsBesidePeers},
		{"k", "a crowd of containers starts, beside the peers", (*bench).crowdsBesidePeers},
		{"l", "rolling replacements, beside the peers", (*bench).replacementsBesidePeers},
	}
}

// ErrMissed is wrapped by the error of a run in which something took more than it may.
var ErrMissed = errors.New("a bound was missed")

// Routes measures the parts, prints what it found, and returns an error that
// wraps ErrMissed if a bound was missed or a part could not be measured.
func Routes(ctx context.Context, o RoutesOptions) error {
	if o.Nginx != "" { // its agents have other working directories
		var err error
		if o.Nginx, err = filepath.Abs(o.Nginx); err != nil {
			return err
		}
	}
	b := &bench{o: o}
	return b.measure(ctx, parts())
}

// measure measures the parts that are wanted, and prints the result.
func (b *bench) measure(ctx context.Context, all []part) error {
	for _, letter := range b.o.Only {
		if !slices.ContainsFunc(all, func(p part) bool { return p.letter == letter }) {
			return fmt.Errorf("there is no part %q: want letters from a to %s, with commas between", letter, all[len(all)-1].letter)
		}
	}
	if err := b.readHost(ctx); err != nil {
		return err
	}
	for _, p := range all {
		if len(b.o.Only) > 0 && !slices.Contains(b.o.Only, p.letter) {
			continue
		}
		began := time.Now()
		b.part = p.letter
		b.progress("%s: %s", p.letter, p.title)
		if err := p.measure(b, ctx); err != nil {
			b.add(Row{What: p.title, Got: "not measured: " + err.Error(), Bound: "to be measured", Missed: true})
		}
		b.progress("%s took %s", p.letter, time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return b.result()
}

// bench is one run.
type bench struct {
	o    RoutesOptions
	host Host
	rows []Row
	part string
	// notes are told beneath the table.
	notes []string
	// keepsIdle is whether this nginx can keep idle connections through a reload.
	keepsIdle bool
}

// Host is where the figures are from. Load is how many processes waited for one of
// its CPUs in the minute before: from as many as there are on, durations are those of
// a crowd.
type Host struct {
	Time   time.Time `json:"time"`
	CPUs   int       `json:"cpus"`
	Load   float64   `json:"load"`
	Nginx  string    `json:"nginx"`
	Docker string    `json:"docker"`
}

func (b *bench) readHost(ctx context.Context) error {
	said, err := exec.CommandContext(ctx, cmp.Or(b.o.Nginx, "nginx"), "-V").CombinedOutput()
	if err != nil {
		return fmt.Errorf("asking nginx for its version: %w", err)
	}
	build, err := nginx.ParseBuild(string(said))
	if err != nil {
		return err
	}
	b.keepsIdle = build.KeepaliveMinTimeout
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer cli.Close()
	v, err := cli.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return err
	}
	b.host = Host{Time: time.Now().Truncate(time.Second), CPUs: runtime.NumCPU(), Load: loadAverage(), Nginx: build.Version.String(), Docker: v.Version}
	return nil
}

// loadAverage is the load average of the last minute.
func loadAverage() (load float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(b), &load)
	}
	if err != nil {
		return 0
	}
	return load
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.o.Progress, format+"\n", args...)
}

func (b *bench) add(r Row) {
	r.Part = b.part
	b.rows = append(b.rows, r)
	b.progress("   %s: %s", r.What, r.Got)
}

// count is how many samples are taken.
func (b *bench) count(full, quick int) int {
	if b.o.Quick {
		return quick
	}
	return full
}

// span is how long something is looked at.
func (b *bench) span(full, quick time.Duration) time.Duration {
	if b.o.Quick {
		return quick
	}
	return full
}

func (b *bench) result() error {
	if b.o.JSON {
		e := json.NewEncoder(b.o.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"host": b.host, "rows": b.rows}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(b.o.Out, "nginx %s, Docker Engine %s, %d cores, load %.1f, %s\n\n", b.host.Nginx, b.host.Docker, b.host.CPUs, b.host.Load, b.host.Time.Format(time.DateTime))
		printTable(b.o.Out, b.rows)
		for _, l := range b.notes {
			fmt.Fprintf(b.o.Out, "\n%s\n", strings.TrimSpace(l))
		}
	}
	var missed []string
	for _, r := range b.rows {
		if r.Missed {
			missed = append(missed, r.Part+" ("+r.What+")")
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%w: %s", ErrMissed, strings.Join(missed, ", "))
	}
	return nil
}

// agentStage is a stage with an agent on it.
type agentStage struct {
	*stage.Stage
	n int
	// hostNetwork is for an engine that has no network of its own.
	hostNetwork bool
}

// startStage sets a stage and starts an agent on it. Config is added to nginx's
// settings where a line begins with two spaces.
func (b *bench) startStage(ctx context.Context, o stage.Options) (*agentStage, error) {
	o.Bin = b.o.Bin
	if b.o.Nginx != "" {
		o.Config = "  binary: " + b.o.Nginx + "\n" + o.Config
	}
	s, err := stage.New(ctx, o)
	if err != nil {
		return nil, err
	}
	p := &agentStage{Stage: s}
	if err := s.StartCloud(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.StartAgent(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := p.waitInSync(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return p, nil
}

// container is one that serves hosts, with a name that no other stage has. Names that differ by the digits at their end alone
// are versions of one family.
func (p *agentStage) container(name string, hosts ...string) stage.Container {
	p.n++
	c := stage.Container{
		Name: fmt.Sprintf("%s-%s-%d", filepath.Base(p.Dir), name, p.n), Args: []string{"-name", name},
		Labels: map[string]string{"nagaya.host": strings.Join(hosts, ","), "com.amazonaws.ecs.task-definition-family": strings.TrimRight(name, "0123456789")},
	}
	if !p.hostNetwork {
		c.Ports = map[string]string{"8080/tcp": "0"}
		return c
	}
	// Below both of the stage's ports nobody listens, and each container has its own.
	port := strconv.Itoa(min(p.HTTPPort, p.HTTPSPort) - p.n)
	c.HostNetwork, c.Labels["nagaya.port"] = true, port
	c.Args = append(c.Args, "-listen", ":"+port)
	return c
}

// patience is for what should take a second or two, on a busy machine.
const patience = 30 * time.Second

// waitInSync waits until nginx serves what is wanted, and so long after its last reload
// that the next ones are not held back.
func (p *agentStage) waitInSync(ctx context.Context) error {
	var loaded time.Time
	err := stage.Until(ctx, patience, "nginx serves what is wanted", func() error {
		st, err := p.Board(ctx)
		if err == nil && !(st.Nginx.Running && st.Nginx.Settled && st.Nginx.Generation == st.Nginx.Wanted) {
			err = fmt.Errorf("nginx %+v", st.Nginx)
		}
		loaded = st.Nginx.LoadedAt
		return err
	})
	if err != nil {
		return err
	}
	return pause(ctx, time.Until(loaded.Add(reloadRefill)))
}

// reloadRefill is how long it takes until three reloads may follow each other
// without a pause again.
const reloadRefill = 3 * time.Second

// waitForAnswer waits until a URL of the stage answers with 200 and returns when it did. It
// asks on a new connection each time.
func (p *agentStage) waitForAnswer(ctx context.Context, url string) (time.Time, error) {
	c, err := p.Client()
	if err != nil {
		return time.Time{}, err
	}
	v := visitor{c: c, fresh: true}
	if strings.HasPrefix(url, "https:") {
		// Handshakes take so much of the processor that they would slow down what is
		// measured.
		if err := p.waitForNewWorker(ctx); err != nil {
			return time.Time{}, err
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		a := v.ask(ctx, url)
		if a.status == 200 {
			return time.Now(), nil
		}
		if time.Now().After(end) {
			return time.Time{}, fmt.Errorf("%s does not answer with 200 within %s, but %s", url, patience, a)
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// waitForNewWorker waits until nginx has a worker that it had not before, and asks for
// nothing meanwhile.
func (p *agentStage) waitForNewWorker(ctx context.Context) error {
	master := p.NginxPID()
	old := withChildren(master)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		for _, pid := range withChildren(master) {
			title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // nothing of one that is gone
			if !slices.Contains(old, pid) && bytes.HasPrefix(title, []byte("nginx: worker process")) {
				return nil
			}
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("nginx has loaded nothing within %s", patience)
}

// PartsHelp lists the parts, one a line.
func PartsHelp() string {
	var lines []string
	for _, p := range parts() {
		lines = append(lines, "  "+p.letter+"  "+p.title)
	}
	return strings.Join(lines, "\n")
}
