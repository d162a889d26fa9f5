package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/address/operator"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit/meter"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/gate/loop"
	"github.com/nagaya-ecs/nagaya/agent/gate/publish"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/metrics"
	"github.com/nagaya-ecs/nagaya/agent/report/page"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

// The functions here translate the configuration into the options of the stages.

// claimOptions are those of the configuration alone.
func (a *agent) claimOptions(c config.Config) claim.Options {
	what, _ := address.ParseClaims(c.Address.Claim) // checked when the configuration was read
	o := claim.Options{
		Claims: what, Policy: address.Policy(c.Address.Policy), Every: c.Address.Every, Unreachable: c.Address.Unreachable,
		API:   func(region string) claim.EC2 { return a.cloud.EC2(region) },
		Moved: a.cloud.DropConnections, Log: a.o.Log,
	}
	if c.Address.Unreachable > 0 {
		o.Reach = claim.Dial(c.Nginx.HTTPPort, c.Nginx.HTTPSPort)
	}
	return o
}

// saveClaims returns the function that saves what a restart must not forget.
func (a *agent) saveClaims(said *operator.State) func(address.Report) {
	return func(r address.Report) {
		if r.Claim == "" {
			return // the claims may come back with the next configuration
		}
		if written, err := said.SaveClaims(r.Memory()); written {
			a.board.SetUpkeep("operator", problems("operator-state-not-saved", err, "make run-dir writable for the agent; until then a restart of the agent forgets what was released"))
		}
	}
}

// gateOptions are those of the gate's loop.
func (a *agent) gateOptions(c config.Config) loop.Options {
	settings, _ := gate.NewSettings(c.Gate, time.LoadLocation) // checked when the configuration was read
	return loop.Options{
		Settings: settings, CreditFile: statePath(c, "credit.json"), GateFile: statePath(c, "gate.json"), Log: a.o.Log,
	}
}

func (a *agent) meterOptions(c config.Config, batches <-chan []string) meter.Options {
	return meter.Options{
		Log: a.o.Log, Proc: c.Credit.ProcDir, Cgroup: c.Credit.CgroupDir, Every: c.Credit.Every, Batches: batches,
		CloudWatch: a.cloud.CloudWatch(), CloudEvery: c.Credit.CloudWatch, EC2: a.cloud.EC2(""),
	}
}

func (a *agent) publishOptions(c config.Config, who <-chan identity.Identity) publish.Options {
	o := publish.Options{
		Log: a.o.Log, File: filepath.Join(c.RunDir, "gate.json"),
		Identity: who, Unchanged: c.Gate.OnExit == "unchanged",
	}
	if c.Gate.ECS {
		o.ECS = a.cloud.ECS()
	}
	if c.Gate.BatchCE != "" {
		o.Batch, o.ComputeEnvironment = a.cloud.Batch(), c.Gate.BatchCE
	}
	return o
}

// makeDirs makes the directories that are the agent's own. What cannot be made is
// reported by the stages that need it.
func (a *agent) makeDirs(c config.Config) error {
	var err error
	for _, dir := range []string{c.StateDir, c.RunDir, c.LogDir} {
		err = errors.Join(err, os.MkdirAll(dir, 0o755))
	}
	a.board.SetUpkeep("directories", problems("directory-unwritable", err, "make the directory writable for the agent, or set state-dir, run-dir and log-dir to other places"))
	return err
}

// keepDirs makes the directories as soon as that can be done.
func (a *agent) keepDirs(ctx context.Context, c config.Config) error {
	_ = backoff.Retry(ctx, retryPause, func() error { return a.makeDirs(c) })
	<-ctx.Done()
	return nil
}

// retryPause is the pause between two attempts at what only an operator can mend.
const retryPause = 5 * time.Second

// makeSocket listens on the socket that systemd has made, or else makes it.
func (a *agent) makeSocket(c config.Config) (net.Listener, error) {
	if l := a.o.Sockets.At(socketPath(c)); l != nil {
		return l, nil
	}
	_ = a.makeDirs(c) // the directory too may have been removed
	return socket.Listen(socketPath(c))
}

func socketPath(c config.Config) string { return filepath.Join(c.RunDir, "nagaya.sock") }

// listenSocket serves the unix socket at listener, or makes one if there is none yet, and again where its file has been removed.
func (a *agent) listenSocket(ctx context.Context, c config.Config, listener net.Listener, x answers) (err error) {
	path := socketPath(c)
	if len(a.o.Sockets) > 0 {
		path = ""
	}
	for l := listener; err == nil && ctx.Err() == nil; l = nil {
		if l == nil {
			l, err = a.listen(ctx, "socket-unavailable", "make the directory writable for the agent, or set run-dir",
				func() (net.Listener, error) { return a.makeSocket(c) })
		}
		if l != nil {
			err = socket.ServeAt(ctx, l, path, x)
		}
	}
	return err
}

// listenMetrics serves the metrics, and beside them the page.
func (a *agent) listenMetrics(ctx context.Context, c config.Config) error {
	l, err := a.listen(ctx, "metrics-unavailable", "free the port, or set metrics.listen to another one, or to nothing",
		func() (net.Listener, error) { return net.Listen("tcp", c.Metrics.Listen) })
	if l == nil {
		return err
	}
	return metrics.Serve(ctx, l, a.status, page.New(page.Options{Status: a.status, Past: keep.Past(statePath(c, keep.Dir)), Listen: c.Metrics.Listen, Host: c.Page.Host}))
}

// listen tries until there is a listener. It returns none when ctx ends, and
// none with an error when another agent has it.
func (a *agent) listen(ctx context.Context, code, hint string, open func() (net.Listener, error)) (l net.Listener, err error) {
	ended := backoff.Retry(ctx, retryPause, func() error {
		if l, err = open(); errors.Is(err, socket.ErrInUse) {
			return nil
		}
		a.board.SetUpkeep(code, problems(code, err, hint))
		return err
	})
	if ended != nil {
		return nil, nil
	}
	return l, err
}

// answers is what the socket may ask of the agent.
type answers struct {
	a    *agent
	gate *loop.Loop
	// requests go to the claim, and leaves to the operator's state.
	requests chan<- latest.Question[address.Request]
	leaves   chan<- latest.Question[bool]
	// renewals go to the orders, with a host.
	renewals chan<- latest.Question[string]
}

func (x answers) Status() report.Status { return x.a.status() }

// Address has the claim carry out a request.
func (x answers) Address(ctx context.Context, r address.Request) error {
	return latest.Ask(ctx, x.requests, r)
}

func (x answers) Reload() error { return x.a.reload() }

// Leave tells every stage that the instance leaves, or stays after all.
func (x answers) Leave(ctx context.Context, yes bool) error {
	return latest.Ask(ctx, x.leaves, yes)
}

// Renew has a new certificate ordered for a host.
func (x answers) Renew(ctx context.Context, host string) error {
	if !x.a.config.Config().Certs.ACME.On() {
		return errors.New("nothing is ordered: certs.acme.email is not set")
	}
	return latest.Ask(ctx, x.renewals, host)
}

func (x answers) Job(ctx context.Context, asked gate.Asked) (gate.Entry, error) {
	return x.gate.Job(ctx, asked)
}

// withoutEffect names the files below root that users of nginx-proxy mount and that
// do nothing here, if its words and directories count.
func withoutEffect(c config.Config, root string) []problem.Problem {
	if !c.NginxProxy {
		return nil
	}
	return nginxproxy.WithoutEffect(func(pattern string) bool {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are constants
		return len(found) > 0
	})
}
