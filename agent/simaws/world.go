package simaws

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Options say how a World begins. The zero value is a world of account
// 123456789012 in ap-northeast-1 that runs by the real clock.
type Options struct {
	// AccountID is the account that owns everything; default "123456789012".
	AccountID string
	// Region is the one Region there is; default "ap-northeast-1".
	Region string
	// Now is the world's clock: launch times, credits, datapoints. Default time.Now.
	// It must not run backwards.
	Now func() time.Time
	// Wall is the clock by which IMDS tokens and role credentials expire. It is a
	// clock of its own because the SDK judges both by the real time. Default time.Now.
	Wall func() time.Time
	// Seed makes ids and the order of datapoints repeatable; default 1.
	Seed uint64
	// Conditions hold from the start.
	Conditions Conditions
	// Moved is told which public address leads to which private one whenever that
	// changes: by an association, its end, or an auto-assigned address. It is called
	// before the call that changed it is answered, and one call at a time; so what
	// is asked afterwards meets the change. It may not call the World. May be nil.
	Moved func([]PublicAddress)
	// Stored is told of each object that a request has put into a bucket, with the body that was there
	// before, nil for none; one call at a time. It may not call the World. May be nil.
	Stored func(bucket, key string, before, after []byte)
}

// PublicAddress is one public IPv4 address of the world that leads somewhere.
type PublicAddress struct {
	PublicIP  string `json:"public_ip"`
	PrivateIP string `json:"private_ip"`
	Instance  string `json:"instance_id"`
}

// Conditions are the ways in which the cloud is late. Durations are zero, and
// the flag is false, unless a scenario asks.
type Conditions struct {
	// MetricLag is how long after its time stamp a datapoint can be read, in world time.
	MetricLag Duration `json:"metric_lag"`
	// MetricsMissing makes GetMetricStatistics answer no datapoints at all.
	MetricsMissing bool `json:"metrics_missing"`
	// AddressLag is how old the associations and tags of addresses are that
	// DescribeAddresses and DescribeInstances answer (eventual consistency), and
	// AddressLagMost how much older they may be: each answer is of another age, by
	// the seed, as if another server had given it.
	AddressLag     Duration `json:"address_lag"`
	AddressLagMost Duration `json:"address_lag_most"`
	// MetadataLag is how old the public addresses in IMDS are.
	MetadataLag Duration `json:"metadata_lag"`
	// AutoPublicDelay is how long an instance that lost its Elastic IP waits for
	// an auto-assigned address.
	AutoPublicDelay Duration `json:"auto_public_delay"`
	// RoleUnknown is for how long after its launch the role of an instance is
	// unknown to EC2, which answers AuthFailure.
	RoleUnknown Duration `json:"role_unknown"`
	// Throttling makes EC2 and Route 53 answer RequestLimitExceeded and Throttling by AWS's own token
	// buckets.
	Throttling bool `json:"throttling"`
	// BatchUpdateTakes is how long a compute environment stays UPDATING.
	BatchUpdateTakes Duration `json:"batch_update_takes"`
	// ZoneChangeTakes is how long a change of a hosted zone stays PENDING.
	ZoneChangeTakes Duration `json:"zone_change_takes"`
}

// World is the state of the simulated cloud. All methods may be called from any
// goroutine.
type World struct {
	mu         sync.Mutex
	account    string
	region     string
	clock      func() time.Time
	wall       func() time.Time
	rnd        *rand.Rand
	conditions Conditions

	instances    map[string]*instance
	addresses    map[string]*address
	clusters     map[string]*cluster
	environments map[string]*environment
	buckets      map[string]*storeBucket
	zones        map[string]*zone
	changes      map[string]time.Time
	past         []view

	keys   map[string]roleKey
	faults []*Fault
	fault  int
	calls  callBook
	tokens map[string]*bucket
	moved  func([]PublicAddress)
	stored func(bucket, key string, before, after []byte)
	leads  []PublicAddress

	// opened is told of every new instance, so that it gets endpoints.
	opened func(id string) error
}

// New makes an empty world.
func New(o Options) *World {
	w := &World{
		account:      o.AccountID,
		region:       o.Region,
		clock:        o.Now,
		wall:         o.Wall,
		conditions:   o.Conditions,
		instances:    map[string]*instance{},
		addresses:    map[string]*address{},
		clusters:     map[string]*cluster{},
		environments: map[string]*environment{},
		buckets:      map[string]*storeBucket{},
		zones:        map[string]*zone{},
		changes:      map[string]time.Time{},
		keys:         map[string]roleKey{},
		tokens:       map[string]*bucket{},
		moved:        o.Moved,
		stored:       o.Stored,
	}
	if w.account == "" {
		w.account = "123456789012"
	}
	if w.region == "" {
		w.region = "ap-northeast-1"
	}
	if w.clock == nil {
		w.clock = time.Now
	}
	if w.wall == nil {
		w.wall = time.Now
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	w.rnd = rand.New(rand.NewPCG(o.Seed, o.Seed))
	w.calls.reset()
	w.remember()
	return w
}

// Now is the present moment of the world.
func (w *World) Now() time.Time { return w.clock().UTC() }

// Region is the world's one Region.
func (w *World) Region() string { return w.region }

// SetConditions replaces the ways in which the cloud is late.
func (w *World) SetConditions(c Conditions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settleLedgers()
	w.conditions = c
}

// settleLedgers brings all credits to the present.
func (w *World) settleLedgers() {
	now, lag := w.Now(), time.Duration(w.conditions.MetricLag)
	for _, i := range w.instances {
		i.ledger.advance(now, lag)
	}
}

// hex returns n random hexadecimal digits.
func (w *World) hex(n int) string {
	const digits = "0123456789abcdef"
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[w.rnd.IntN(len(digits))]
	}
	return string(b)
}

// newID returns an id in EC2's long form, e.g. i-0123456789abcdef0.
func (w *World) newID(prefix string) string { return prefix + "-0" + w.hex(16) }

// view is who has which public address, and how addresses are tagged, at one moment.
type view struct {
	at time.Time
	// holder is by allocation id; absent when the address is free.
	holder map[string]association
	// auto is the auto-assigned public address by interface id.
	auto map[string]autoAddress
	// tags are by allocation id. They are never changed, only replaced.
	tags map[string]map[string]string
	// early shows auto-assigned addresses before their time.
	early bool
}

// keptViews bounds what stale reads can reach back to.
const keptViews = 512

// remember records who has which address now. It is called after every change.
func (w *World) remember() {
	v := view{at: w.Now(), holder: map[string]association{}, auto: map[string]autoAddress{}, tags: map[string]map[string]string{}}
	for id, a := range w.addresses {
		v.tags[id] = a.tags
		if a.held != nil {
			v.holder[id] = *a.held
		}
	}
	for _, i := range w.instances {
		for _, n := range i.enis {
			if n.auto.ip != "" {
				v.auto[n.id] = n.auto
			}
		}
	}
	w.past = append(w.past, v)
	if extra := len(w.past) - keptViews; extra > 0 {
		w.past = slices.Delete(w.past, 0, extra)
	}
	w.tellMoved(v)
}

// tellMoved tells whoever wants to know where public addresses lead, if that has
// changed. An auto-assigned address that is still to come counts already.
func (w *World) tellMoved(v view) {
	if w.moved == nil {
		return
	}
	v.early = true
	var leads []PublicAddress
	for _, id := range sortedKeys(w.instances) {
		i := w.instances[id]
		if i.state == "terminated" {
			continue
		}
		for _, n := range i.enis {
			for _, p := range w.publicIPs(v, n) {
				leads = append(leads, PublicAddress{PublicIP: p.public, PrivateIP: p.private, Instance: id})
			}
		}
	}
	if !slices.Equal(leads, w.leads) {
		w.leads = leads
		w.moved(slices.Clone(leads))
	}
}

// stale is the view that an answer of EC2 is made of.
func (w *World) stale() view {
	lag := w.conditions.AddressLag
	if most := int64(w.conditions.AddressLagMost); most > 0 {
		lag += Duration(w.rnd.Int64N(most + 1))
	}
	return w.asOf(lag)
}

// asOf returns who had which address at the moment that lies d back. What is
// older than the memory of the world counts as its first moment.
func (w *World) asOf(d Duration) view {
	t := w.Now().Add(-time.Duration(d))
	for _, v := range slices.Backward(w.past) {
		if !v.at.After(t) {
			return v
		}
	}
	return w.past[0]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// NotFoundError says that the world has no such thing. Control calls return it.
type NotFoundError struct {
	Kind string
	ID   string
}

// Error names what is missing.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("the simulated cloud has no %s %q", e.Kind, e.ID)
}
