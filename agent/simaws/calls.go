package simaws

import (
	"maps"
	"slices"
	"time"
)

// Call is one request that reached the cloud, also one that was refused.
type Call struct {
	Time time.Time `json:"time"`
	// Service is ec2, cloudwatch, ecs, batch, s3, route53, imds or ecs-agent.
	Service string `json:"service"`
	// Action is the API action; for imds and ecs-agent the method and path.
	Action string `json:"action"`
	// Instance is who called, known by its role credentials; empty when it is not known.
	Instance string `json:"instance,omitempty"`
	// Error is the error code that was answered; empty for success.
	Error string `json:"error,omitempty"`
	// Dropped says that the connection was cut instead of answered.
	Dropped bool `json:"dropped,omitempty"`
}

// Calls are the requests since the start or the last ResetCalls.
type Calls struct {
	// Counts is by service and action, for at most 500 different actions a service.
	Counts map[string]map[string]int `json:"counts"`
	// ByInstance is the same for each instance that is known by its credentials.
	ByInstance map[string]map[string]map[string]int `json:"by_instance"`
	// Log holds the newest requests, oldest first, 1,000 at most.
	Log []Call `json:"log"`
}

const keptCalls = 1000

// keptActions bounds the number of different actions that are counted a service.
const keptActions = 500

type callBook struct{ Calls }

func (b *callBook) reset() {
	b.Calls = Calls{Counts: map[string]map[string]int{}, ByInstance: map[string]map[string]map[string]int{}}
}

func (b *callBook) add(c Call) {
	count(b.Counts, c)
	if c.Instance != "" { // credentials name an instance that exists, so these are few
		if b.ByInstance[c.Instance] == nil {
			b.ByInstance[c.Instance] = map[string]map[string]int{}
		}
		count(b.ByInstance[c.Instance], c)
	}
	b.Log = append(b.Log, c)
	if extra := len(b.Log) - keptCalls; extra > 0 {
		b.Log = slices.Delete(b.Log, 0, extra)
	}
}

func count(by map[string]map[string]int, c Call) {
	of := by[c.Service]
	if of == nil {
		of = map[string]int{}
		by[c.Service] = of
	}
	if _, known := of[c.Action]; known || len(of) < keptActions {
		of[c.Action]++
	}
}

func (w *World) note(c Call) {
	c.Time = w.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls.add(c)
}

// Calls returns a copy of the requests so far.
func (w *World) Calls() Calls {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Calls{Counts: copied(w.calls.Counts), ByInstance: map[string]map[string]map[string]int{}, Log: slices.Clone(w.calls.Log)}
	for id, counts := range w.calls.ByInstance {
		c.ByInstance[id] = copied(counts)
	}
	return c
}

func copied(counts map[string]map[string]int) map[string]map[string]int {
	all := map[string]map[string]int{}
	for service, of := range counts {
		all[service] = maps.Clone(of)
	}
	return all
}

// Count is how often an action was called.
func (w *World) Count(service, action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls.Counts[service][action]
}

// CountBy is how often an instance called an action.
func (w *World) CountBy(instance, service, action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls.ByInstance[instance][service][action]
}

// ResetCalls forgets all requests.
func (w *World) ResetCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls.reset()
}
