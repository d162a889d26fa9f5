// Package meter reads what the credit arithmetic needs: CPU time from
// /proc/stat and the batch containers' cgroups, and the late but binding answers of CloudWatch and EC2.
package meter

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options says where to read and which services of AWS to ask. The zero value reads this machine and asks none.
type Options struct {
	// Log gets a line for each change; nil discards.
	Log *slog.Logger
	// Proc and Cgroup are where the kernel's trees are mounted; "/proc" and "/sys/fs/cgroup" by default.
	Proc   string
	Cgroup string
	// Every is the time between readings, 5 s by default.
	Every time.Duration
	// Batches delivers the full ids of the containers that are batches whenever they have
	// changed. Nil means that there are none.
	Batches <-chan []string
	// CloudWatch is asked for the balance; *cloudwatch.Client satisfies it. Nil
	// means that the balance is never known. The Region is given with each call.
	CloudWatch MetricStatistics
	// CloudEvery is the time between two questions to CloudWatch, 5 min by default: its
	// points come no faster.
	CloudEvery time.Duration
	// EC2 is asked for the credit mode; *ec2.Client satisfies it. Nil means that the mode stays unknown.
	EC2 CreditSpecifications
}

// modeEvery is the time between two questions for the mode.
const modeEvery = time.Hour

func (o Options) withDefaults() Options {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Proc, o.Cgroup = cmp.Or(o.Proc, "/proc"), cmp.Or(o.Cgroup, "/sys/fs/cgroup")
	o.Every, o.CloudEvery = cmp.Or(o.Every, 5*time.Second), cmp.Or(o.CloudEvery, 5*time.Minute)
	return o
}

// answer is what a question to AWS gave. An answer with a problem leaves
// what was known before as it is.
type answer struct {
	instance string
	about    string // the topic, so that a good answer removes its own old problem only
	problem  *problem.Problem
	cloud    *credit.Cloud
	mode     credit.Mode
}

// meter is the state of one Run.
type meter struct {
	o        Options
	name     string // of this run, see credit.CPU.Meter
	stat     *procStat
	batches  *batches
	batchIDs []string
	instance identity.Instance
	cloud    credit.Cloud
	mode     credit.Mode
	standing map[string]problem.Problem // by topic
	stop     context.CancelFunc         // ends the questions that are being asked
}

// Run puts a reading at once, then every Options.Every and whenever AWS has answered, until ctx ends; it then returns nil.
// Who gives the identity; AWS is asked only once it names a burstable instance.
func Run(ctx context.Context, o Options, who <-chan identity.Identity, put func(credit.Reading)) error {
	o = o.withDefaults()
	m := &meter{
		o: o, name: time.Now().UTC().Format(time.RFC3339Nano),
		stat: &procStat{dir: o.Proc}, batches: newBatches(o.Cgroup),
		standing: map[string]problem.Problem{}, stop: func() {},
	}
	answers := make(chan answer)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer func() { m.stop() }()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	put(m.read(time.Now()))
	for {
		select {
		case <-ctx.Done():
			return nil
		case m.batchIDs = <-o.Batches:
			continue // they are read at the next tick
		case <-tick.C:
		case a := <-answers:
			m.store(a)
		case id := <-who:
			if m.setInstance(id.Instance) {
				m.startQuestions(ctx, &asking, answers)
			}
		}
		put(m.read(time.Now()))
	}
}

// setInstance takes a new identity and reports whether AWS must be asked afresh. An
// identity that is not known changes nothing.
func (m *meter) setInstance(i identity.Instance) bool {
	if !i.Known {
		return false
	}
	same := m.instance.ID == i.ID && m.instance.Type == i.Type && m.instance.Region == i.Region &&
		m.instance.StartedAt.Equal(i.StartedAt)
	m.instance = i
	if same {
		return false
	}
	m.cloud, m.mode = credit.Cloud{}, ""
	clear(m.standing)
	return true
}

// startQuestions ends the questions about the last instance and starts those about the present
// one, if it is burstable; they end with ctx.
func (m *meter) startQuestions(ctx context.Context, asking *sync.WaitGroup, answers chan<- answer) {
	m.stop()
	ctx, m.stop = context.WithCancel(ctx)
	known := credit.Burstable(m.instance.Type)
	m.o.Log.Info("instance known to the credit meter", event.Key, event.MeterBegan, "instance", m.instance.ID, "instance_type", m.instance.Type, "burstable", known)
	if !known {
		return
	}
	if m.o.CloudWatch != nil {
		c := cloudQuestion{api: m.o.CloudWatch, instance: m.instance, last: map[string]credit.Metric{}}
		asking.Go(func() { repeat(ctx, m.o.CloudEvery, c.ask, answers) })
	}
	if m.o.EC2 != nil {
		q := modeQuestion{api: m.o.EC2, instance: m.instance}
		asking.Go(func() { repeat(ctx, modeEvery, q.ask, answers) })
	}
}

// store stores an answer, unless it is about an instance of the past.
func (m *meter) store(a answer) {
	if a.instance != m.instance.ID {
		return
	}
	old, stood := m.standing[a.about]
	if a.problem != nil {
		if old.Code != a.problem.Code {
			m.o.Log.Warn("question about credits failed", event.Key, event.CreditsUnanswered, "problem", a.problem.Code, "err", a.problem.Text)
		}
		m.standing[a.about] = *a.problem
	} else if delete(m.standing, a.about); stood {
		m.o.Log.Info("question about credits answered again", event.Key, event.CreditsAnswered, "about", a.about)
	}
	if a.cloud != nil {
		m.cloud = *a.cloud
	}
	if a.mode != "" {
		if a.mode != m.mode {
			m.o.Log.Info("credit mode", event.Key, event.CreditModeKnown, "mode", string(a.mode))
		}
		m.mode = a.mode
	}
}

// read makes a reading out of the counters now and AWS's last answers.
func (m *meter) read(now time.Time) credit.Reading {
	r := credit.Reading{
		At: now, InstanceID: m.instance.ID, Type: m.instance.Type, StartedAt: m.instance.StartedAt,
		Mode: m.mode, ModeKnown: m.mode != "", Cloud: m.cloud,
	}
	r.Cloud.Usage = slices.Clone(m.cloud.Usage)
	cpu, err := m.stat.read()
	if err != nil {
		r.Problems = append(r.Problems, problem.Problem{
			Code: "cpu-time-unreadable", Severity: problem.Error, Subject: m.o.Proc + "/stat",
			Text: awserror.Sentence("CPU time cannot be read", err), Hint: "mount proc at " + m.o.Proc + " and let nagaya read it",
		})
	} else {
		cpu.Meter = m.name
		cpu.Batch = m.batches.read(m.batchIDs, now, float64(cpu.Online))
		r.CPU = cpu
	}
	for _, p := range m.standing {
		r.Problems = append(r.Problems, p)
	}
	problem.Sort(r.Problems)
	return r
}
