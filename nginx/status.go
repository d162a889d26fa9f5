package nginx

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Status is the status of the running nginx.
type Status struct {
	// Running is true while the master process lives; PID is then its number.
	Running bool `json:"running"`
	PID     int  `json:"pid,omitempty"`
	// Container is the id of the container that nginx is in; empty for one in none.
	Container string `json:"container,omitempty"`
	// Version is the version of the binary, e.g. "1.22.1".
	Version string `json:"version,omitempty"`
	// Generation is the one that nginx answers that it serves; empty when it did not
	// answer. Wanted is that of the newest wanted tree; the two differ while a reload is
	// pending, after a failure, and while a site is in quarantine.
	Generation string `json:"generation,omitempty"`
	Wanted     string `json:"wanted,omitempty"`
	// Settled is true when nginx serves the newest wanted tree, apart from sites in
	// quarantine.
	Settled bool `json:"settled"`
	// Reloads counts the generations that went live since the agent started,
	// starts of nginx included; LoadedAt is when the last one was confirmed.
	Reloads  int       `json:"reloads"`
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// LastError is the text of the last error; empty after a success.
	LastError string `json:"last_error,omitempty"`
	// Quarantined are the sites that nginx refused, sorted by Host.
	Quarantined []Quarantine `json:"quarantined,omitempty"`
	// WorkersDraining counts old workers that finish their requests.
	WorkersDraining int `json:"workers_draining"`
	// Restored counts how often files that another program had changed were restored
	// since the agent started.
	Restored int `json:"restored,omitempty"`
	// WorkersEnded counts draining workers that were ended because there were too many.
	WorkersEnded int               `json:"workers_ended,omitempty"`
	Problems     []problem.Problem `json:"problems,omitempty"`
}

// Behind reports whether nginx serves an older configuration because the newest could not be loaded.
func (s Status) Behind() bool { return s.Running && !s.Settled && s.LastError != "" }

// Quarantine is one site that nginx refused.
type Quarantine struct {
	Host string `json:"host"`
	// Reason is nginx's own message, bounded.
	Reason string `json:"reason"`
	// Waiting is true where another site of its family may be the one that is refused: it
	// is tried once the others are served.
	Waiting bool `json:"waiting,omitempty"`
	// LastGood is true when the site's last accepted file is served instead;
	// otherwise the site is left out.
	LastGood bool `json:"last_good"`
}
