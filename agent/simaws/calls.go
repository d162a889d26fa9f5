package simaws

import (
	"slices"
	"time"
)

// Call is one request that reached the cloud, also one that was refused.
type Call struct {
	Time time.Time `json:"time"`
	// Service is ec2, cloudwatch, ecs, batch, imds or ecs-agent.
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
	// Log holds the newest requests, oldest first, 1,000 at most.
	Log []Call `json:"log"`
}

const keptCalls = 1000

// keptActions bounds the number of different actions that are counted a service.
const keptActions = 500

type callBook struct{ Calls }

func (b *callBook) reset() { b.Calls = Calls{Counts: map[string]map[string]int{}} }

func (b *callBook) add(c Call) {
	of := b.Counts[c.Service]
	if of == nil {
		of = map[string]int{}
		b.Counts[c.Service] = of
	}
	if _, known := of[c.Action]; known || len(of) < keptActions {
		of[c.Action]++
	}
	b.Log = append(b.Log, c)
	if extra := len(b.Log) - keptCalls; extra > 0 {
		b.Log = slices.Delete(b.Log, 0, extra)
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
	c := Calls{Counts: map[string]map[string]int{}, Log: slices.Clone(w.calls.Log)}
	for service, of := range w.calls.Counts {
		c.Counts[service] = map[string]int{}
		for action, n := range of {
			c.Counts[service][action] = n
		}
	}
	return c
}

// Count is how often an action was called.
func (w *World) Count(service, action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls.Counts[service][action]
}

// ResetCalls forgets all requests.
func (w *World) ResetCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls.reset()
}
