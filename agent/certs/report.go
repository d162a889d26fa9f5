package certs

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// State is how it stands with a certificate.
type State string

// The states of certificates.
const (
	Valid    State = "valid"
	Waiting  State = "waiting"  // there is none yet, or it is due; Reason says for what it waits
	Ordering State = "ordering" // by this or another instance
	Overdue  State = "overdue"  // it should have been renewed
	Expired  State = "expired"
	Refused  State = "refused" // it cannot be ordered as it is asked for
)

// Entry is one certificate, or what a site waits for.
type Entry struct {
	// ID is empty for a file.
	ID string `json:"id,omitempty"`
	// Hosts are those of the sites that it is for, and Names what is in it.
	Hosts []string `json:"hosts"`
	Names []string `json:"names"`
	// Issuer is who signed it; Directory is where it is, or will be, ordered.
	Issuer    string `json:"issuer,omitempty"`
	Directory string `json:"directory,omitempty"`
	// Source is file, acme or import.
	Source    string    `json:"source"`
	File      string    `json:"file,omitempty"`
	KeyType   KeyType   `json:"key_type,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Renewal is when it is renewed next, or ordered at the earliest; zero where nothing is planned.
	Renewal time.Time `json:"renewal,omitzero"`
	State   State     `json:"state"`
	// Reason is a sentence without a full stop; Problem the code of the problem that says more.
	Reason  string `json:"reason,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// Report is what status, metrics and 'nagaya certs' show. It has nothing secret.
type Report struct {
	At time.Time `json:"at,omitzero"`
	// On is true where certificates are ordered; StoreRead where the store was read.
	On        bool    `json:"on"`
	StoreRead bool    `json:"store_read"`
	Store     string  `json:"store,omitempty"`
	Entries   []Entry `json:"entries"`
	// Orders counts what came of orders since the agent started, by Result.
	Orders   map[Result]uint64 `json:"orders,omitempty"`
	Problems []problem.Problem `json:"problems,omitempty"`
}
