package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// What must hold of nagaya beside caddy-docker-proxy, and of a crowd.
const (
	startRatio   = 0.75 // of the peer's p50
	crowdSize    = 15
	crowdLate    = 400 * time.Millisecond
	crowdReloads = 10
)

// startsBesidePeers measures the same start for each proxy in turn, each of a new host.
func (b *bench) startsBesidePeers(ctx context.Context) (err error) {
	c, err := b.compare(ctx, stage.Options{})
	if err != nil {
		return err
	}
	defer closeInto(c, &err)
	called, returned, listened := spansOf{}, spansOf{}, spansOf{}
	for _, name := range names("new%02d", b.count(16, 5)) {
		for _, x := range c.proxies {
			if err := c.measure(ctx, x, func() error {
				t, id, err := c.start(ctx, x, name)
				called.add(x, t.called)
				returned.add(x, t.returned)
				listened.add(x, t.listened)
				return errors.Join(err, c.Remove(ctx, id))
			}); err != nil {
				return err
			}
		}
	}
	b.add(compared("one start; docker start called → first 200", called))
	row := compared("one start; docker start returned → first 200", returned)
	if theirs := returned[caddyName].at(0.5); theirs > 0 {
		row.Bound = fmt.Sprintf("p50 ≤ %.2f × %s", startRatio, caddyName)
		row.Missed = float64(returned[nagayaName].at(0.5)) > startRatio*float64(theirs)
	}
	b.add(row)
	b.add(compared("one start; container listens → first 200", listened))
	return nil
}

// crowdWays are two ways to start a crowd.
var crowdWays = []struct {
	name  string
	start func(*comparison, context.Context, []stage.Container) (last time.Time, err error)
}{
	{"created before, started one by one", (*comparison).startCreated},
	{"created and started eight at a time", (*comparison).runParallel},
}

// crowdsBesidePeers starts a crowd of new hosts for each proxy in turn, in two ways,
// and one more container right after it.
func (b *bench) crowdsBesidePeers(ctx context.Context) error {
	after := spansOf{}
	for _, way := range crowdWays {
		late, most := spansOf{}, 0
		for range b.count(3, 1) {
			c, err := b.compare(ctx, stage.Options{})
			if err != nil {
				return err
			}
			for _, x := range c.proxies {
				m, cerr := c.crowd(ctx, x, way.start)
				err = errors.Join(err, cerr)
				late.add(x, m.late)
				after.add(x, m.next)
				most = max(most, m.reloads)
			}
			if err := errors.Join(err, c.Close()); err != nil {
				return err
			}
		}
		row := compared(fmt.Sprintf("%d containers %s; last start returned → all answer", crowdSize, way.name), late)
		row.Got += fmt.Sprintf("; at most %d reloads", most)
		row.Figures["reloads"] = float64(most)
		row.Bound = fmt.Sprintf("p50 ≤ %s; ≤ %d reloads", ms(crowdLate), crowdReloads)
		row.Missed = late[nagayaName].at(0.5) > crowdLate || most > crowdReloads
		b.add(row)
	}
	row := compared("one start right after a crowd; docker start returned → first 200", after)
	row.Bound = "p50 ≤ " + ms(crowdLate)
	row.Missed = after[nagayaName].at(0.5) > crowdLate
	b.add(row)
	return nil
}

// crowdTimes are what one crowd took: from the return of the last start until all
// answer, the reloads until then, and the start that follows.
type crowdTimes struct {
	late, next time.Duration
	reloads    int
}

func (c *comparison) crowd(ctx context.Context, x *proxy, start func(*comparison, context.Context, []stage.Container) (time.Time, error)) (m crowdTimes, err error) {
	all := names("%02dh", crowdSize) // each of a family of its own
	var crowd []stage.Container
	for _, name := range all {
		crowd = append(crowd, c.container(x, name, name+".test"))
	}
	err = c.measure(ctx, x, func() error {
		before, err := x.countReloads(ctx)
		if err != nil {
			return err
		}
		last, err := start(c, ctx, crowd)
		if err != nil {
			return err
		}
		answered := last
		for _, name := range all {
			a, err := c.firstAnswer(ctx, x, name+".test", name)
			if err != nil {
				return err
			}
			answered = a.at.Add(a.took)
		}
		m.late = answered.Sub(last)
		if m.reloads, err = x.countReloads(ctx); err != nil {
			return err
		}
		m.reloads -= before
		t, next, err := c.start(ctx, x, "next")
		m.next = t.returned
		return errors.Join(err, c.Remove(ctx, next), inParallel(crowd, func(x stage.Container) error { return c.Remove(ctx, x.Name) }))
	})
	return m, err
}

func (x *proxy) countReloads(ctx context.Context) (int, error) {
	if x.reloads == nil {
		return 0, nil
	}
	return x.reloads(ctx)
}

// startCreated makes all containers, waits a moment, and starts them one by one.
func (c *comparison) startCreated(ctx context.Context, all []stage.Container) (last time.Time, err error) {
	for _, x := range all {
		if _, err := c.Create(ctx, x); err != nil {
			return last, err
		}
	}
	if err := pause(ctx, settleTime); err != nil {
		return last, err
	}
	for _, x := range all {
		if _, err := c.Docker.ContainerStart(ctx, x.Name, client.ContainerStartOptions{}); err != nil {
			return last, err
		}
	}
	return time.Now(), nil
}

// runParallel makes and starts the containers, several at a time.
func (c *comparison) runParallel(ctx context.Context, all []stage.Container) (last time.Time, err error) {
	err = inParallel(all, func(x stage.Container) error {
		_, err := c.Run(ctx, x)
		return err
	})
	return time.Now(), err
}

// replacementsBesidePeers replaces a container again and again under load, with each proxy.
func (b *bench) replacementsBesidePeers(ctx context.Context) (err error) {
	c, err := b.compare(ctx, stage.Options{})
	if err != nil {
		return err
	}
	defer closeInto(c, &err)
	const perSecond = 200
	n := b.count(10, 4)
	row := Row{
		What:    fmt.Sprintf("%d rolling replacements at %d GET/s; the old container is stopped as soon as the new one answers", n, perSecond),
		Bound:   "0 failed",
		Figures: map[string]float64{"n": float64(n)},
	}
	for _, x := range c.proxies {
		var l *load
		if err := c.measure(ctx, x, func() error {
			l, err = c.replace(ctx, x, n, perSecond)
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		got := fmt.Sprintf("%d of %d failed%s", len(l.bad), l.requests, l.first())
		row.Figures["failed "+x.name] = float64(len(l.bad))
		row.Figures["requests "+x.name] = float64(l.requests)
		if x.name == nagayaName {
			row.Got, row.Missed = got, len(l.bad) > 0
		} else {
			row.peer(x.name+" "+got, "")
		}
	}
	b.add(row)
	return nil
}

// replace replaces a container n times while it is asked on new connections, and
// returns what the requests met.
func (c *comparison) replace(ctx context.Context, x *proxy, n, perSecond int) (*load, error) {
	version := func(i int) (string, stage.Container) {
		name := fmt.Sprintf("app%d", i)
		made := c.container(x, name, "app.test")
		made.Args = append(made.Args, "-abrupt")
		return name, made
	}
	name, old := version(0)
	if _, err := c.Run(ctx, old); err != nil {
		return nil, err
	}
	if _, err := c.firstAnswer(ctx, x, "app.test", name); err != nil {
		return nil, err
	}
	// An old worker of this reload may not know the host yet.
	if err := pause(ctx, settleTime); err != nil {
		return nil, err
	}
	l := startLoad(ctx, visitor{c: c.client, fresh: true}, x.url("app.test"), perSecond)
	defer l.stop()
	for i := range n {
		name, next := version(i + 1)
		if _, err := c.Run(ctx, next); err != nil {
			return nil, err
		}
		if err := stage.Until(ctx, patience, name+" answers", func() error {
			if l.seen(name) == 0 {
				return errors.New("it does not")
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if err := c.Stop(ctx, old.Name, 10); err != nil {
			return nil, err
		}
		if err := c.Remove(ctx, old.Name); err != nil {
			return nil, err
		}
		old = next
	}
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	l.stop()
	return l, c.Remove(ctx, old.Name)
}

// spansOf are samples of a duration for each proxy, by its name.
type spansOf map[string]spans

func (s spansOf) add(x *proxy, d time.Duration) { s[x.name] = append(s[x.name], d) }

// compared is a row of what nagaya took, with the peers beside.
func compared(what string, took spansOf) Row {
	ours := took[nagayaName]
	row := Row{What: what, Got: ours.String(), Figures: ours.figures()}
	for _, name := range slices.Sorted(maps.Keys(took)) {
		if name == nagayaName {
			continue
		}
		theirs := took[name]
		row.peer(name+" "+theirs.short(), fmt.Sprintf("%.2f", float64(ours.at(0.5))/float64(max(theirs.at(0.5), 1))))
		for k, v := range theirs.figures() {
			row.Figures[name+" "+k] = v
		}
	}
	return row
}

// peer adds a line about a peer.
func (r *Row) peer(text, ratio string) {
	if r.Peers != "" {
		r.Peers, r.Ratio = r.Peers+"; ", r.Ratio+"; "
	}
	r.Peers += text
	r.Ratio += ratio
}
