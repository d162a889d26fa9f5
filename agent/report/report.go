// Package report is the board of the program: what it saw, wanted and did, in
// one shape for people, machines and metrics.
package report

import (
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Status is everything the agent knows at one moment.
type Status struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	// At is when the status was read.
	At       time.Time         `json:"at"`
	Config   Config            `json:"config"`
	Identity identity.Identity `json:"identity"`
	Address  address.Report    `json:"address"`
	Tasks    Tasks             `json:"tasks"`
	Routes   route.Table       `json:"routes"`
	Certs    certs.Inventory   `json:"certs"`
	Orders   certs.Report      `json:"orders"`
	Nginx    nginx.Status      `json:"nginx"`
	Traffic  traffic.Report    `json:"traffic"`
	Credit   credit.Report     `json:"credit"`
	Gate     gate.Report       `json:"gate"`
	// Upkeep is what the agent cannot do for itself: open a socket, keep a file.
	Upkeep []problem.Problem `json:"upkeep,omitempty"`
	// Problems are those of all parts, worst first, with the time each began.
	Problems []problem.Problem `json:"problems"`
}

// Config is where the configuration in force came from.
type Config struct {
	File     string            `json:"file"`
	LoadedAt time.Time         `json:"loaded_at"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Tasks is what is known about the containers, without the containers.
type Tasks struct {
	// At is when Docker was last listed successfully.
	At       time.Time `json:"at,omitzero"`
	Complete bool      `json:"complete"`
	Running  int       `json:"running"`
	Batches  int       `json:"batches"`
	// ECSAgent is true while the ECS agent answers.
	ECSAgent bool              `json:"ecs_agent"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Standing returns the problems of all parts, each with the time it began: that
// of the same problem in before, or now. The list is never nil: scripts go through it.
func (s Status) Standing(before []problem.Problem, now time.Time) []problem.Problem {
	all := append([]problem.Problem{}, slices.Concat(
		s.Config.Problems, s.Identity.Problems, s.Address.Problems, s.Tasks.Problems, s.Routes.Problems,
		s.Certs.Problems, s.Orders.Problems, s.Nginx.Problems, s.Credit.Problems, s.Gate.Problems(), s.Upkeep,
	)...)
	for i, p := range all {
		all[i].Since = now
		for _, b := range before {
			if b.Code == p.Code && b.Subject == p.Subject {
				all[i].Since = b.Since
			}
		}
	}
	problem.Sort(all)
	return slices.CompactFunc(all, func(a, b problem.Problem) bool {
		return a.Code == b.Code && a.Subject == b.Subject && a.Text == b.Text
	})
}

// LiveSites counts the sites with a container behind every path, and all sites.
func (s Status) LiveSites() (live, all int) {
	return len(s.Routes.LiveHosts()), len(s.Routes.Sites)
}

// Severe counts the problems that are errors, and all.
func (s Status) Severe() (severe, all int) {
	for _, p := range s.Problems {
		if p.Severity == problem.Error {
			severe++
		}
	}
	return severe, len(s.Problems)
}

// CountTasks counts what runs in a snapshot.
func CountTasks(s tasks.Snapshot) Tasks {
	r := Tasks{At: s.At, Complete: s.Complete, ECSAgent: s.ECSAgent, Batches: len(s.Batches()), Problems: s.Problems}
	for _, c := range s.Containers {
		if c.Origin == tasks.Local && c.State == tasks.Running {
			r.Running++
		}
	}
	return r
}
