package agent

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/address/operator"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/credit/meter"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/gate/brake"
	"github.com/nagaya-ecs/nagaya/agent/gate/loop"
	"github.com/nagaya-ecs/nagaya/agent/gate/publish"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/lock"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/route/saved"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/readiness"
)

// flow is what docs/design.md has a picture of ("What flows where"), with a table of the slots. It runs until ctx ends or a stage fails. Every slot has one reader; a value
// that is wanted in several places is given to each of their slots.
func (a *agent) flow(ctx context.Context, c config.Config) error {
	a.board.ResetUpkeep()
	_ = a.makeDirs(c) // tried again below
	// Two agents must not serve one host, not even for the moment that it would
	// take to notice: what only one can have comes before everything else.
	unlock, err := lock.State(c.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := a.makeSocket(c)
	if errors.Is(err, socket.ErrInUse) {
		return err // else it is made as soon as that can be done
	}
	var (
		b      = a.board
		g      = stages.New(ctx)
		r      = newRouting()
		ready  = readiness.NewInputs()
		orders = order.NewInputs()
		gates  = loop.New(a.gateOptions(c))

		state, lost = operator.Open(filepath.Join(c.RunDir, operator.FileName))
		requests    = make(chan latest.Question[address.Request])
		leaves      = make(chan latest.Question[bool])

		found        = latest.New[identity.Identity]()
		whoClaims    = latest.New[address.Situation]()
		whoMeters    = latest.New[identity.Identity]()
		whoPublishes = latest.New[identity.Identity]()
		wanted       = latest.New[nginx.Wanted]()
		tables       = latest.New[route.Table]()
		served       = latest.New[nginx.Offer]()
		decisions    = latest.New[gate.Decision]()
		brakes       = latest.New[gate.Decision]()
		metered      = latest.New[[]string]() // ids of batch containers
		braked       = latest.New[[]string]()
	)
	b.SetUpkeep("operator", problems("operator-state-lost", lost, "release the addresses again, and repeat 'nagaya leave', if that still holds; the file is written again then"))
	b.SetUpkeep("nginx-proxy", withoutEffect(c, "/"))
	g.Run("directories", func(ctx context.Context) error { return a.keepDirs(ctx, c) })

	// Who is this machine, and is the address here?
	g.Run("discover", func(ctx context.Context) error {
		return discover.Watch(ctx, discover.Options{
			IMDS: a.cloud.Metadata(c.IMDS), AgentURL: c.ECS.AgentURL, LocalAddr: c.LocalAddr, Log: a.o.Log,
			Spare: c.NginxProxy && len(c.Address.Claim) == 0,
		}, found.Put)
	})
	g.Run("operator", func(ctx context.Context) error {
		return state.Run(ctx, found.C(), leaves, latest.Tee(a.sawIdentity, b.SetIdentity, r.identity.Put, ready.Identity.Put, orders.Identity.Put, whoMeters.Put, whoPublishes.Put, gates.Identity.Put))
	})
	g.Run("readiness", func(ctx context.Context) error { return readiness.Run(ctx, c.Address.Ready, ready, whoClaims.Put) })
	g.Run("claim", func(ctx context.Context) error {
		o := a.claimOptions(c)
		o.Requests, o.Memory = requests, state.Claims()
		released := latest.Distinct(gates.Released.Put)
		return claim.Run(ctx, o, whoClaims.C(), latest.Tee(b.SetAddress, a.saveClaims(state), orders.Address.Put, func(r address.Report) { released(r.Released()) }))
	})

	// What runs here, and what should be served?
	batches := latest.Distinct(latest.Tee(gates.Batches.Put, metered.Put, braked.Put))
	running := latest.Distinct(b.SetTasks)
	r.snapshot = func(s tasks.Snapshot) {
		a.containers.Put(s.Containers)
		running(report.CountTasks(s))
		batches(s.Batches())
	}
	wishes, serving := latest.Distinct(orders.Wishes.Put), latest.Distinct(orders.Serving.Put)
	r.certs, r.wanted, r.alive = latest.Tee(b.SetCerts, orders.Files.Put), wanted.Put, b.Beat
	r.offer = latest.Tee(ready.Offers.Put, served.Put, func(p nginx.Offer) {
		a.table = p.Table
		tables.Put(p.Table)
		b.SetRoutes(p.Table)
		if p.Table.Complete {
			wishes(p.Table.Wishes)
		}
	})
	r.problems = func(ps []problem.Problem) { b.SetUpkeep("network", ps) }
	r.unlisted = func(ps []problem.Problem) { b.SetUpkeep("snippets", ps) }
	orders.Again = a.reread
	if a.table.Sites == nil { // the first flow begins with that of the agent before
		a.table = saved.Read(statePath(c, saved.FileName), a.o.Log)
	}
	r.run(g, a, c, a.table)
	issued := sync.OnceFunc(func() { close(r.issued) })
	if c.Certs.ACME.On() {
		g.Run("orders", func(ctx context.Context) error {
			return order.Keep(ctx, c, a.o.Log, a.openOrders(c), orders, order.Outputs{Ready: issued, Report: b.SetOrders})
		})
	} else {
		issued()
	}
	g.Run("saved", func(ctx context.Context) error {
		return saved.Run(ctx, statePath(c, saved.FileName), a.o.Log, tables.C())
	})
	g.Run("nginx", func(ctx context.Context) error {
		return a.serve(ctx, c, r, wanted.C(), latest.Tee(b.SetNginx, ready.Nginx.Put, func(s nginx.Status) { serving(s.Generation != "") }))
	})

	g.Run("traffic", func(ctx context.Context) error { return a.traffic.Run(ctx, served.C()) })

	// How many credits are there, and may batches start?
	g.Run("meter", func(ctx context.Context) error {
		return meter.Run(ctx, a.meterOptions(c, metered.C()), whoMeters.C(), gates.Readings.Put)
	})
	g.Run("gate", func(ctx context.Context) error {
		low := latest.Distinct(r.lowCredits.Put)
		return gates.Run(ctx, latest.Tee(b.SetCredit, func(v credit.Report) { low(v.Low()) }), latest.Tee(decisions.Put, brakes.Put, b.SetDecision))
	})
	g.Run("brake", func(ctx context.Context) error {
		return brake.Run(ctx, brake.Options{
			Log: a.o.Log, Host: c.Docker.Host, Batches: braked.C(), File: statePath(c, "brakes.json"),
		}, brakes.C(), func(ps []problem.Problem) { b.SetUpkeep("brake", ps) })
	})
	g.Run("publish", func(ctx context.Context) error {
		return publish.Run(ctx, a.publishOptions(c, whoPublishes.C()), decisions.C(), b.SetPublished)
	})

	g.Run("history", func(ctx context.Context) error {
		return keep.Run(ctx, statePath(c, keep.Dir), a.status, a.o.Notes, func(err error) {
			b.SetUpkeep("history", problems("history-not-kept", err, "make state-dir writable for the agent, with 16 MiB free; until then what 'nagaya history' and 'nagaya credits --since' show has a gap"))
		})
	})

	// Who asks?
	g.Run("socket", func(ctx context.Context) error {
		return a.listenSocket(ctx, c, listener, answers{a, gates, requests, leaves, orders.Questions})
	})
	if c.Metrics.Listen != "" {
		g.Run("metrics", func(ctx context.Context) error { return a.listenMetrics(ctx, c) })
	}
	return g.Wait()
}
