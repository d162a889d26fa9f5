package simaws

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// InstanceSpec describes an instance to add. Every field has a default.
type InstanceSpec struct {
	// ID is the instance id; made up when empty.
	ID string `json:"id,omitempty"`
	// Type is the instance type; default "t3.micro". It must be one that the
	// simulated cloud knows.
	Type string `json:"type,omitempty"`
	// LaunchTime is when EC2 started it; default now. Credits are replayed from
	// then, at most two weeks back. It cannot lie in the future.
	LaunchTime time.Time `json:"launch_time,omitzero"`
	// State is pending, running (the default), shutting-down, stopping, stopped or terminated.
	State string `json:"state,omitempty"`
	// Zone is the letter of the availability zone; default "a".
	Zone string `json:"zone,omitempty"`
	// BorderGroup is the network border group of its zone; default the Region.
	BorderGroup string `json:"border_group,omitempty"`
	// LifeCycle is on-demand (the default) or spot.
	LifeCycle string `json:"life_cycle,omitempty"`
	// CreditMode is the mode of a burstable instance; the default is EC2's own:
	// standard for T2, unlimited for T3, T3a, T4g and T8i.
	CreditMode CreditMode `json:"credit_mode,omitempty"`
	// CPUPercent is the use of all vCPUs together, 0 to 100, since the launch.
	CPUPercent float64 `json:"cpu_percent,omitempty"`
	// PrivateIP is the primary private address; made up when empty.
	PrivateIP string `json:"private_ip,omitempty"`
	// SecondaryPrivateIPs are further addresses of the primary interface.
	SecondaryPrivateIPs []string `json:"secondary_private_ips,omitempty"`
	// ExtraInterfaces is how many interfaces there are besides the primary one, each
	// with one private address.
	ExtraInterfaces int `json:"extra_interfaces,omitempty"`
	// NoAutoPublicIP is for a subnet that assigns no public addresses.
	NoAutoPublicIP bool `json:"no_auto_public_ip,omitempty"`
	// Tags are the instance's tags.
	Tags map[string]string `json:"tags,omitempty"`
	// NoTagsInMetadata is EC2's own default: IMDS shows no tags.
	NoTagsInMetadata bool `json:"no_tags_in_metadata,omitempty"`
	// Role is the instance role; default "nagaya". "-" is an instance without one.
	Role string `json:"role,omitempty"`
	// Allow are the actions that the role may do, e.g. "ec2:DescribeAddresses" or
	// "ecs:*"; null, the default, allows everything, an empty list nothing.
	Allow []string `json:"allow"`
	// UserData is what IMDS answers under user-data.
	UserData string `json:"user_data,omitempty"`
}

type instance struct {
	id             string
	hw             hardware
	launched       time.Time
	state          string
	zone           string
	borderGroup    string
	lifeCycle      string
	image          string
	role           string
	allow          []string // nil allows everything
	userData       string
	autoPublic     bool
	enis           []*eni
	tags           map[string]string
	tagsInMetadata bool
	// startTags is what a Xen instance shows in its metadata: the tags at its start
	// (EC2 User Guide, "View tags for your EC2 instances using instance metadata").
	startTags map[string]string
	hopBlock  bool
	notices   Notices
	ledger    ledger
	tasks     json.RawMessage
	tokens    map[string]time.Time
}

// eni is an elastic network interface. The first private address is the primary one.
type eni struct {
	id         string
	device     int
	mac        string
	privateIPs []string
	// auto is the auto-assigned public address of the primary private address.
	auto autoAddress
}

type autoAddress struct {
	ip   string
	from time.Time
}

const (
	subnetID = "subnet-0a1b2c3d4e5f60718"
	vpcID    = "vpc-0123456789abcdef0"
	imageID  = "ami-0123456789abcdef0"
)

var states = []string{"pending", "running", "shutting-down", "terminated", "stopping", "stopped"}

// AddInstance adds an instance and returns its id.
func (w *World) AddInstance(s InstanceSpec) (string, error) {
	w.mu.Lock()
	i, err := w.newInstance(s)
	if err == nil {
		w.instances[i.id] = i
		w.remember()
	}
	opened := w.opened
	w.mu.Unlock()
	if err != nil {
		return "", err
	}
	if opened != nil {
		if err := opened(i.id); err != nil {
			return "", err
		}
	}
	return i.id, nil
}

func (w *World) newInstance(s InstanceSpec) (*instance, error) {
	if err := w.checkInstance(&s); err != nil {
		return nil, err
	}
	hw, _ := hardwareOf(s.Type)
	i := &instance{
		id:             s.ID,
		hw:             hw,
		launched:       s.LaunchTime.UTC().Truncate(time.Second),
		state:          s.State,
		zone:           w.region + s.Zone,
		borderGroup:    s.BorderGroup,
		lifeCycle:      s.LifeCycle,
		image:          imageID,
		role:           s.Role,
		allow:          slices.Clone(s.Allow),
		userData:       s.UserData,
		autoPublic:     !s.NoAutoPublicIP,
		tags:           maps.Clone(s.Tags),
		tagsInMetadata: !s.NoTagsInMetadata,
		startTags:      maps.Clone(s.Tags),
		tasks:          json.RawMessage(`{"Tasks":[]}`),
		tokens:         map[string]time.Time{},
	}
	if i.tags == nil {
		i.tags = map[string]string{}
	}
	i.enis = w.newInterfaces(s)
	if i.state == "running" {
		w.assignPublic(i, 0)
	}
	w.openLedger(i, s)
	return i, nil
}

// checkInstance fills in the defaults and refuses what cannot be.
func (w *World) checkInstance(s *InstanceSpec) error {
	now := w.Now()
	setDefault(&s.ID, w.newID("i"))
	setDefault(&s.Type, "t3.micro")
	setDefault(&s.State, "running")
	setDefault(&s.Zone, "a")
	setDefault(&s.LifeCycle, "on-demand")
	setDefault(&s.Role, "nagaya")
	setDefault(&s.BorderGroup, w.region)
	setDefault(&s.PrivateIP, w.freePrivateIP())
	if s.LaunchTime.IsZero() {
		s.LaunchTime = now
	}
	hw, ok := hardwareOf(s.Type)
	if !ok {
		return &NotFoundError{"instance type", s.Type}
	}
	if s.CreditMode == "" {
		s.CreditMode = Unlimited
		if hw.xen || !hw.burstable() {
			s.CreditMode = Standard
		}
	}
	switch {
	case w.instances[s.ID] != nil:
		return fmt.Errorf("instance %q exists already", s.ID)
	case !slices.Contains(states, s.State):
		return fmt.Errorf("state %q is not one of %s", s.State, strings.Join(states, ", "))
	case s.CreditMode != Standard && s.CreditMode != Unlimited:
		return fmt.Errorf("credit mode %q is neither standard nor unlimited", s.CreditMode)
	case s.CPUPercent < 0 || s.CPUPercent > 100:
		return fmt.Errorf("CPU use of %g %% is not within 0 and 100", s.CPUPercent)
	case s.LaunchTime.After(now):
		return fmt.Errorf("launch time %s lies in the future", s.LaunchTime.Format(time.RFC3339))
	case s.ExtraInterfaces < 0 || s.ExtraInterfaces >= hw.maxENIs:
		return fmt.Errorf("%d extra interfaces: %s has room for %d in all", s.ExtraInterfaces, s.Type, hw.maxENIs)
	}
	for _, ip := range append([]string{s.PrivateIP}, s.SecondaryPrivateIPs...) {
		if a, err := netip.ParseAddr(ip); err != nil || !a.Is4() {
			return fmt.Errorf("private address %q is not an IPv4 address", ip)
		}
	}
	return nil
}

func setDefault(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

// freePrivateIP makes up an address that no interface has.
func (w *World) freePrivateIP() string {
	for {
		ip := fmt.Sprintf("10.0.%d.%d", w.rnd.IntN(16), 4+w.rnd.IntN(250))
		taken := false
		for _, i := range w.instances {
			for _, n := range i.enis {
				taken = taken || slices.Contains(n.privateIPs, ip)
			}
		}
		if !taken {
			return ip
		}
	}
}

// freePublicIP makes up an address of the documentation ranges (RFC 5737).
func (w *World) freePublicIP() string {
	for {
		ip := fmt.Sprintf("%s.%d", []string{"192.0.2", "198.51.100", "203.0.113"}[w.rnd.IntN(3)], 1+w.rnd.IntN(254))
		taken := false
		for _, a := range w.addresses {
			taken = taken || a.publicIP == ip
		}
		for _, i := range w.instances {
			for _, n := range i.enis {
				taken = taken || n.auto.ip == ip
			}
		}
		if !taken {
			return ip
		}
	}
}

func (w *World) newInterfaces(s InstanceSpec) []*eni {
	var all []*eni
	for device := range 1 + s.ExtraInterfaces {
		h := w.hex(10)
		n := &eni{
			id:     w.newID("eni"),
			device: device,
			mac:    fmt.Sprintf("06:%s:%s:%s:%s:%s", h[:2], h[2:4], h[4:6], h[6:8], h[8:10]),
		}
		if device == 0 {
			n.privateIPs = append([]string{s.PrivateIP}, s.SecondaryPrivateIPs...)
		} else {
			n.privateIPs = []string{w.freePrivateIP()}
		}
		all = append(all, n)
	}
	return all
}

func (w *World) openLedger(i *instance, s InstanceSpec) {
	now := w.Now()
	from := i.launched
	if oldest := now.Add(-keptSamples * sampleEvery); from.Before(oldest) {
		from = oldest
	}
	i.ledger = ledger{hw: i.hw, mode: s.CreditMode, percent: s.CPUPercent, at: from, since: from}
	if i.state != "running" {
		return
	}
	i.ledger.start()
	i.ledger.advance(now, time.Duration(w.conditions.MetricLag))
}

// with finds an instance, brings its credits to the present and changes it.
func (w *World) with(id string, change func(*instance) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.instances[id]
	if i == nil {
		return &NotFoundError{"instance", id}
	}
	i.ledger.advance(w.Now(), time.Duration(w.conditions.MetricLag))
	return change(i)
}

// SetCPU sets the use of all vCPUs together, in per cent, from now on.
func (w *World) SetCPU(id string, percent float64) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("CPU use of %g %% is not within 0 and 100", percent)
	}
	return w.with(id, func(i *instance) error {
		i.ledger.percent = percent
		return nil
	})
}

// SetCredits sets balance, launch credits and surplus as if they had come about
// by themselves; the counters Used and Charged are left alone. With publish a
// datapoint of this moment can be read at once, whatever the lag.
func (w *World) SetCredits(id string, c Credits, publish bool) error {
	return w.with(id, func(i *instance) error {
		full := i.hw.full()
		if c.Balance < 0 || c.Balance > full || c.Surplus < 0 || c.Surplus > full || c.Launch < 0 || c.Launch > i.hw.launch {
			return fmt.Errorf("credits %+v do not fit a %s: balance and surplus are 0 to %g, launch credits 0 to %g", c, i.hw.name, full, i.hw.launch)
		}
		i.ledger.now.Balance, i.ledger.now.Launch, i.ledger.now.Surplus = c.Balance, c.Launch, c.Surplus
		if publish {
			w.publish(i)
		}
		return nil
	})
}

// Publish makes a datapoint of this moment that can be read at once.
func (w *World) Publish(id string) error {
	return w.with(id, func(i *instance) error {
		w.publish(i)
		return nil
	})
}

// publish writes a row now. Its time stamp is the whole minute before, as EC2
// stamps no seconds. A row of the five minutes before is folded into it: CloudWatch
// would answer the average of the two where they share a period.
func (w *World) publish(i *instance) {
	now, l := w.Now(), &i.ledger
	for n := len(l.rows); n > 0 && now.Sub(l.rows[n-1].at) < sampleEvery; n = len(l.rows) {
		l.used -= l.rows[n-1].usage
		l.charged -= l.rows[n-1].charged
		l.rows = l.rows[:n-1]
	}
	l.write(now.Truncate(time.Minute), now)
	l.used, l.charged, l.since = l.now.Used, l.now.Charged, now
}

// Credits returns the true credits of an instance at this moment, which no
// API of AWS tells.
func (w *World) Credits(id string) (Credits, error) {
	var c Credits
	err := w.with(id, func(i *instance) error {
		c = i.ledger.now
		return nil
	})
	return c, err
}

// SetCreditMode is ModifyInstanceCreditSpecification: to standard charges all
// surplus at once, to unlimited takes launch credits away.
func (w *World) SetCreditMode(id string, m CreditMode) error {
	if m != Standard && m != Unlimited {
		return fmt.Errorf("credit mode %q is neither standard nor unlimited", m)
	}
	return w.with(id, func(i *instance) error {
		i.ledger.setMode(m)
		return nil
	})
}

// SetState moves an instance to another state. Stopping and terminating charge
// surplus and end its metadata; only "terminated" frees its Elastic IPs, as EC2
// frees them late. A start after a stop is a new launch time and a new
// auto-assigned address.
func (w *World) SetState(id, state string) error {
	if !slices.Contains(states, state) {
		return fmt.Errorf("state %q is not one of %s", state, strings.Join(states, ", "))
	}
	return w.with(id, func(i *instance) error {
		if i.state == "terminated" && state != "terminated" {
			return fmt.Errorf("instance %q is terminated and stays so", id)
		}
		was := i.state
		i.state = state
		switch state {
		case "running":
			if was == "running" {
				return nil
			}
			if was == "stopped" || was == "stopping" {
				i.launched = w.Now().Truncate(time.Second)
				i.startTags = maps.Clone(i.tags)
			}
			i.ledger.start()
			w.assignPublic(i, 0)
		case "pending":
			i.launched = w.Now().Truncate(time.Second)
			i.startTags = maps.Clone(i.tags)
		default:
			i.ledger.stop()
			clear(i.tokens)
			for _, n := range i.enis {
				n.auto = autoAddress{}
			}
		}
		if state == "terminated" {
			w.freeAll(i)
		}
		w.remember()
		return nil
	})
}

// SetAllow replaces the actions that the role of an instance may do; see
// InstanceSpec.Allow.
func (w *World) SetAllow(id string, actions []string) error {
	return w.with(id, func(i *instance) error {
		i.allow = slices.Clone(actions)
		return nil
	})
}

// SetTags replaces the tags of an instance.
func (w *World) SetTags(id string, tags map[string]string) error {
	return w.with(id, func(i *instance) error {
		i.tags = maps.Clone(tags)
		if i.tags == nil {
			i.tags = map[string]string{}
		}
		return nil
	})
}

// Metadata are the metadata options of an instance.
type Metadata struct {
	// Tags says whether IMDS shows the tags.
	Tags bool `json:"tags"`
	// HopLimitBlocked makes the answer to a token PUT never arrive, as in a
	// container behind a hop limit of 1.
	HopLimitBlocked bool `json:"hop_limit_blocked"`
}

// SetMetadata changes the metadata options of an instance.
func (w *World) SetMetadata(id string, m Metadata) error {
	return w.with(id, func(i *instance) error {
		if m.Tags && !i.tagsInMetadata {
			i.startTags = maps.Clone(i.tags)
		}
		i.tagsInMetadata, i.hopBlock = m.Tags, m.HopLimitBlocked
		return nil
	})
}

// SetTasks sets what the ECS agent of an instance answers under /v1/tasks: the
// whole JSON document, with a list "Tasks" of objects.
func (w *World) SetTasks(id string, document json.RawMessage) error {
	var parsed struct{ Tasks []map[string]any }
	if err := json.Unmarshal(document, &parsed); err != nil {
		return fmt.Errorf("tasks of %q: %w", id, err)
	}
	if parsed.Tasks == nil {
		return fmt.Errorf("tasks of %q: the document has no list \"Tasks\"", id)
	}
	return w.with(id, func(i *instance) error {
		i.tasks = slices.Clone(document)
		return nil
	})
}
