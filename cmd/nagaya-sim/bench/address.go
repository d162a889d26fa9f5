package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// AddressOptions say what of the address is measured and how.
type AddressOptions struct {
	// Bin is the directory of the programs, and of claim.test: the compiled tests of
	// package claim, which measure on a virtual clock.
	Bin string
	// Only names the parts to be measured, by letter; empty is all of them.
	Only []string
	// Quick takes fewer samples, and 100 schedules instead of 1,000.
	Quick bool
	// JSON prints the rows as JSON instead of the table.
	JSON bool
	// Out gets the result, Progress one line for each step.
	Out, Progress io.Writer
}

func addressParts() []part {
	return []part{
		{"a", "a host boots", (*bench).addressAtBoot},
		{"b", "the address moves while it is asked", (*bench).addressMoves},
		{"c", "its holder dies", (*bench).holderDies},
		{"d", "its holder cannot be reached", (*bench).holderIsSilent},
		{"e", "days, outages and crowds on a virtual clock", (*bench).onVirtualClock},
	}
}

// Address measures the parts as Routes does. It needs root.
func Address(ctx context.Context, o AddressOptions) error {
	b := &bench{o: RoutesOptions{Bin: o.Bin, Only: o.Only, Quick: o.Quick, JSON: o.JSON, Out: o.Out, Progress: o.Progress}}
	return b.measure(ctx, addressParts())
}

// What the address may cost.
const (
	bootCalls   = 3
	bootTakes   = 300 * time.Millisecond
	apiLatency  = 50 * time.Millisecond
	goneTakes   = 15 * time.Second
	silentTakes = 60 * time.Second
	// silence is the setting address.unreachable with which the last is measured.
	silence = 30 * time.Second
)

const (
	eip       = simaws.DefaultAllocation
	publicIP  = simaws.DefaultPublicIP
	cluster   = "home"
	quickHost = "quick.test"
	slowHost  = "slow.test"
)

// region is a simulated region with one Elastic IP.
type region struct {
	*stage.Region
	n int
}

func (b *bench) newRegion(ctx context.Context) (*region, error) {
	r, err := stage.NewRegion(ctx, b.o.Bin)
	if err != nil {
		return nil, err
	}
	t := &region{Region: r}
	err = r.Cloud.AddCluster(cluster)
	if err == nil {
		_, err = r.Cloud.AddAddress(simaws.AddressSpec{AllocationID: eip, PublicIP: publicIP, Tags: map[string]string{"Name": "nagaya"}})
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return t, nil
}

// launch sets up an instance whose agent claims the address by that policy. More is
// added to the settings of the address.
func (t *region) launch(ctx context.Context, policy, more string) (*stage.Instance, error) {
	return t.Launch(ctx, stage.Launch{
		Spec: simaws.InstanceSpec{Type: "m5.large"}, Cluster: cluster, Hosts: []string{quickHost, slowHost},
		Config: fmt.Sprintf("address: {claim: 'tag:Name=nagaya', policy: %s%s}\nmetrics: {listen: ''}\n", policy, more),
	})
}

// settle sets up an instance and starts its agent.
func (t *region) settle(ctx context.Context, policy, more string) (*stage.Instance, error) {
	i, err := t.launch(ctx, policy, more)
	if err != nil {
		return nil, err
	}
	return i, i.StartAgent()
}

// startContainers starts the containers of an instance, the slow one first, and returns
// the name by which the quick one answers.
func (t *region) startContainers(ctx context.Context, i *stage.Instance) (string, error) {
	t.n++
	name := fmt.Sprintf("quick%d", t.n)
	for _, c := range []stage.Container{
		{Name: fmt.Sprintf("%s-slow", filepath.Base(i.Dir)), Args: []string{"-name", fmt.Sprintf("slow%d", t.n), "-slow", "2s"}, Labels: labels(slowHost)},
		{Name: fmt.Sprintf("%s-quick", filepath.Base(i.Dir)), Args: []string{"-name", name}, Labels: labels(quickHost)},
	} {
		if _, err := i.Run(ctx, c); err != nil {
			return "", err
		}
	}
	return name, nil
}

// labels are those of a container without published ports.
func labels(host string) map[string]string {
	return map[string]string{"nagaya.host": host, "nagaya.port": "8080", "com.amazonaws.ecs.task-definition-family": host}
}

// holder is who has the address by EC2's word.
func (t *region) holder() string {
	a, _ := t.Cloud.State().Address(eip)
	return a.InstanceID
}

// waitUntilHeld waits until the instance has the address, and returns since when.
func (t *region) waitUntilHeld(ctx context.Context, i *stage.Instance, within time.Duration) (time.Time, error) {
	err := stage.Until(ctx, within, i.InstanceID+" has the address", func() error {
		if h := t.holder(); h != i.InstanceID {
			return fmt.Errorf("held by %q", h)
		}
		return nil
	})
	return t.Moved(), err
}

// waitUntilServed waits until a host is served at the address by that household.
func (t *region) waitUntilServed(ctx context.Context, name string) error {
	v, err := t.visitor(true)
	if err != nil {
		return err
	}
	return stage.Until(ctx, patience, name+" answers at the address", func() error {
		if a := v.ask(ctx, "https://"+quickHost+"/"); a.by != name {
			return errors.New(a.String())
		}
		return nil
	})
}

// visitor is somebody on the internet who asks at the address.
func (t *region) visitor(fresh bool) (visitor, error) {
	c, err := t.Client(publicIP)
	return visitor{c: c, fresh: fresh}, err
}

// addressAtBoot measures from the start of the agent's process until EC2 has made
// the association.
func (b *bench) addressAtBoot(ctx context.Context) (err error) {
	t, err := b.newRegion(ctx)
	if err != nil {
		return err
	}
	defer closeRegion(t, &err)
	if _, err := t.Cloud.AddFault(simaws.Fault{Service: "ec2", Delay: simaws.Duration(apiLatency)}); err != nil {
		return err
	}
	var took, bare spans
	most := 0
	for range b.count(10, 4) {
		began := time.Now()
		if err := exec.CommandContext(ctx, filepath.Join(b.o.Bin, "nagaya"), "version").Run(); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
		i, err := t.launch(ctx, "takeover", "")
		if err != nil {
			return err
		}
		began = time.Now()
		if err := i.StartAgent(); err != nil {
			return err
		}
		at, err := t.waitUntilHeld(ctx, i, patience)
		if err != nil {
			return err
		}
		took = append(took, at.Sub(began))
		if err := t.waitUntilVerified(ctx, i); err != nil {
			return err
		}
		calls := 0
		for _, action := range []string{"DescribeAddresses", "DescribeInstances", "DescribeNetworkInterfaces", "AssociateAddress", "DisassociateAddress"} {
			calls += t.Cloud.CountBy(i.InstanceID, "ec2", action)
		}
		most = max(most, calls)
		if err := i.StopAgent(); err != nil {
			return err
		}
		if err := t.Cloud.Disassociate(eip); err != nil {
			return err
		}
	}
	figures := took.figures()
	figures["calls"], figures["version_p50"] = float64(most), millis(bare.at(0.5))
	b.add(Row{
		What:  "the agent's process starts → EC2 has associated the free address; 50 ms a call",
		Got:   fmt.Sprintf("%s; %d calls of EC2 about the address, the verification among them; 'nagaya version' beside: p50 %s", took, most, ms(bare.at(0.5))),
		Bound: fmt.Sprintf("p90 ≤ %s; ≤ %d calls", ms(bootTakes), bootCalls), Missed: took.at(0.9) > bootTakes || most > bootCalls,
		Figures: figures,
	})
	return nil
}

// waitUntilVerified waits until the agent has seen its association in EC2's answers.
func (t *region) waitUntilVerified(ctx context.Context, i *stage.Instance) error {
	return stage.Until(ctx, patience, "the address is verified", func() error {
		st, err := i.Board(ctx)
		if err == nil && (len(st.Address.Claims) == 0 || !st.Address.Claims[0].Verified) {
			err = fmt.Errorf("%+v", st.Address)
		}
		return err
	})
}

// addressMoves lets newer instances take the address one after another while a
// hundred new connections a second are made to it, and some requests take two
// seconds.
func (b *bench) addressMoves(ctx context.Context) (err error) {
	t, err := b.newRegion(ctx)
	if err != nil {
		return err
	}
	defer closeRegion(t, &err)
	// What a holder serves stands in its sign a minute after it has come to rest; the
	// moves follow each other quicker than that, so the hosts are named.
	named := fmt.Sprintf(", ready: [%s, %s]", quickHost, slowHost)
	first, err := t.settle(ctx, "takeover", named)
	if err != nil {
		return err
	}
	name, err := t.startContainers(ctx, first)
	if err != nil {
		return err
	}
	if err := t.waitUntilServed(ctx, name); err != nil {
		return err
	}
	quick, err := t.visitor(true)
	if err != nil {
		return err
	}
	slow, err := t.visitor(true)
	if err != nil {
		return err
	}
	moves := b.count(10, 3)
	visits, long := startLoad(ctx, quick, "https://"+quickHost+"/", 100), startLoad(ctx, slow, "https://"+slowHost+"/", 5)
	var notice spans
	for range moves {
		// Launch times have whole seconds, and only a newer instance takes.
		if err := pause(ctx, 1100*time.Millisecond); err != nil {
			return err
		}
		i, err := t.settle(ctx, "takeover", named)
		if err != nil {
			return err
		}
		name, err := t.startContainers(ctx, i)
		if err != nil {
			return err
		}
		began := time.Now()
		at, err := t.waitUntilHeld(ctx, i, patience)
		if err != nil {
			return err
		}
		notice = append(notice, max(0, at.Sub(began)))
		if err := t.waitUntilServed(ctx, name); err != nil {
			return err
		}
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	visits.stop()
	long.stop()
	b.add(Row{
		What: fmt.Sprintf("%d planned moves to a newer instance; 100 new TLS connections/s, 5/s of them slow (2 s)", moves),
		Got: fmt.Sprintf("%d of %d failed, %d of %d slow ones%s; slowest answer %s; containers started → moved %s",
			len(visits.bad), visits.requests, len(long.bad), long.requests, visits.first()+long.first(), ms(visits.slowest), ms(notice.at(0.5))),
		Bound: "0 failed; those in flight finish", Missed: len(visits.bad)+len(long.bad) > 0,
		Figures: map[string]float64{
			"failed": float64(len(visits.bad)), "requests": float64(visits.requests), "slow_failed": float64(len(long.bad)), "slow_requests": float64(long.requests),
			"slowest": millis(visits.slowest), "moves": float64(moves), "notice_p50": millis(notice.at(0.5)),
		},
	})
	return nil
}

// timeline is what happened when, since the first event.
type timeline struct {
	from  time.Time
	lines []string
}

func (s *timeline) add(at time.Time, what string) {
	if s.from.IsZero() {
		s.from = at
	}
	s.lines = append(s.lines, fmt.Sprintf("%+6.1f s  %s", at.Sub(s.from).Seconds(), what))
}

// pair is a holder and a standby that both serve, and the household of the latter.
func (t *region) pair(ctx context.Context, more string) (holder, standby *stage.Instance, name string, err error) {
	if holder, err = t.settle(ctx, "standby", more); err != nil {
		return nil, nil, "", err
	}
	if name, err = t.startContainers(ctx, holder); err != nil {
		return nil, nil, "", err
	}
	if err := t.waitUntilServed(ctx, name); err != nil {
		return nil, nil, "", err
	}
	if standby, err = t.settle(ctx, "standby", more); err != nil {
		return nil, nil, "", err
	}
	if name, err = t.startContainers(ctx, standby); err != nil {
		return nil, nil, "", err
	}
	err = stage.Until(ctx, patience, "the standby knows the holder and serves", func() error {
		st, err := standby.Board(ctx)
		if err == nil && (st.Address.Holder.InstanceID != holder.InstanceID || len(st.Routes.LiveHosts()) != 2 || !st.Nginx.Settled) {
			err = fmt.Errorf("%+v", st.Address)
		}
		return err
	})
	return holder, standby, name, err
}

// holderDies takes the power from the holder, and tells EC2 a while later.
func (b *bench) holderDies(ctx context.Context) error {
	var took spans
	var last timeline
	for n := range b.count(3, 1) {
		s, d, err := b.killHolder(ctx, time.Duration(3+4*n)*time.Second)
		if err != nil {
			return err
		}
		took, last = append(took, d), s
	}
	b.notes = append(b.notes, "The holder's power goes off:\n"+last.String())
	b.add(Row{
		What: "the holder is powered off; EC2 says it is stopped → the address has moved", Got: took.String(),
		Bound: "≤ " + ms(goneTakes), Missed: took.at(1) > goneTakes, Figures: took.figures(),
	})
	return nil
}

func (s timeline) String() string {
	text := ""
	for _, l := range s.lines {
		text += "  " + l + "\n"
	}
	return text
}

func (b *bench) killHolder(ctx context.Context, unknown time.Duration) (s timeline, took time.Duration, err error) {
	t, err := b.newRegion(ctx)
	if err != nil {
		return s, 0, err
	}
	defer closeRegion(t, &err)
	holder, standby, name, err := t.pair(ctx, "")
	if err != nil {
		return s, 0, err
	}
	s.add(time.Now(), "the holder's power is off; its packets go nowhere")
	if err := holder.PowerOff(ctx); err != nil {
		return s, 0, err
	}
	if err := pause(ctx, unknown); err != nil {
		return s, 0, err
	}
	if err := t.Cloud.SetState(holder.InstanceID, "stopped"); err != nil {
		return s, 0, err
	}
	said := time.Now()
	s.add(said, "EC2 reports it stopped")
	return s, took, t.recordTakeover(ctx, &s, &took, said, standby, name)
}

// recordTakeover waits for the move and the first answer, and tells both.
func (t *region) recordTakeover(ctx context.Context, s *timeline, took *time.Duration, since time.Time, standby *stage.Instance, name string) error {
	at, err := t.waitUntilHeld(ctx, standby, 2*silentTakes)
	if err != nil {
		return err
	}
	*took = at.Sub(since)
	s.add(at, "the standby has associated the address")
	if err := t.waitUntilServed(ctx, name); err != nil {
		return err
	}
	s.add(time.Now(), "a new connection is answered by the standby")
	return nil
}

// holderIsSilent takes the holder off the network; EC2 goes on calling it running.
func (b *bench) holderIsSilent(ctx context.Context) (err error) {
	t, err := b.newRegion(ctx)
	if err != nil {
		return err
	}
	defer closeRegion(t, &err)
	holder, standby, name, err := t.pair(ctx, ", unreachable: "+silence.String())
	if err != nil {
		return err
	}
	if err := pause(ctx, 12*time.Second); err != nil { // it must have answered once
		return err
	}
	var s timeline
	var took time.Duration
	cut := time.Now()
	s.add(cut, "the holder is cut off; EC2 calls it running")
	if err := holder.Unplug(); err != nil {
		return err
	}
	if err := t.recordTakeover(ctx, &s, &took, cut, standby, name); err != nil {
		return err
	}
	b.notes = append(b.notes, fmt.Sprintf("The holder is cut off, address.unreachable is %s:\n", silence)+s.String())
	b.add(Row{
		What: fmt.Sprintf("the holder is cut off while EC2 calls it running; address.unreachable: %s", silence), Got: fmt.Sprintf("moved after %s", ms(took)),
		Bound: "≤ " + ms(silentTakes), Missed: took > silentTakes, Figures: map[string]float64{"took": millis(took)},
	})
	return nil
}

// closeRegion takes a region away and keeps the error of that if there is no other.
func closeRegion(t *region, err *error) {
	if cerr := t.Close(); *err == nil {
		*err = cerr
	}
}
