package certs

import (
	"fmt"
	"slices"
	"strings"
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
	// Overdue is true where it should have been renewed, or has expired, whatever is being done about it.
	Overdue bool `json:"overdue,omitempty"`
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

// conclude adds the entry of a need, and its problem if it has one.
func (d *decision) conclude(n *need) {
	if n.byFile {
		return // it is among the files
	}
	e := Held{ID: n.id, Names: n.Names, KeyType: n.key}.entry()
	overdue, soon := false, false
	if n.has {
		e = n.held.entry()
		overdue, soon = Late(d.Now, n.held.NotBefore, n.held.NotAfter, d.window(n.held))
		e.Overdue = overdue || soon || !n.valid
	}
	e.Hosts, e.Renewal, e.Reason, e.State = n.hosts, n.renewal, n.cause.text, Waiting
	if e.Directory == "" && len(n.directories) > 0 {
		e.Directory = n.directories[0]
	}
	if n.cause.until.After(d.Now) {
		e.Renewal = n.cause.until
	}
	switch {
	case n.ordering:
		e.State = Ordering
	case n.has && !n.valid:
		e.State = Expired
	case n.refusal != nil && n.due:
		e.State = Refused
	case n.valid && overdue:
		e.State = Overdue
	case n.valid && !n.due:
		e.State = Valid
	}
	if n.valid && !n.due && n.held.ID != n.id {
		e.Reason = "the certificate for " + problem.Quoted(n.held.Names[0]) + " serves it too"
	}
	defer func() { d.out.Entries = append(d.out.Entries, e) }()
	if !n.due || n.cause.code == "" && !e.Overdue {
		return
	}
	severity := problem.Error
	if n.valid && !soon {
		severity = problem.Warning
	}
	why := n.cause
	if why.code == "" {
		why = cause{text: why.text, code: "cert-overdue", hint: "see the problems of the CA and of the store; 'nagaya certs' says what it waits for"}
	}
	switch {
	case n.has && !n.valid:
		why.text = fmt.Sprintf("its certificate expired at %s: %s", n.held.NotAfter.Format(time.RFC3339), why.text)
	case e.Overdue:
		why.text = fmt.Sprintf("its certificate expires at %s and should have been renewed: %s", n.held.NotAfter.Format(time.RFC3339), why.text)
	}
	why.text = strings.TrimSuffix(why.text, ": ")
	e.Problem = why.code
	d.problem(n.hosts[0], why.code, severity, why.text, why.hint)
}

// entry is one of no host.
func (h Held) entry() Entry {
	e := Entry{
		ID: h.ID, Hosts: []string{}, Names: h.Names, Issuer: h.Issuer, Directory: h.Directory, Source: "acme", KeyType: h.KeyType,
		NotBefore: h.NotBefore, NotAfter: h.NotAfter, State: Valid,
	}
	if h.Imported {
		e.Source = "import"
	}
	return e
}

// problem adds one about a host.
func (d *decision) problem(host, code string, severity problem.Severity, text, hint string) {
	p := problem.OfHost(problem.Printable(host, 253), code, hint, "%s", text)
	p.Severity = severity
	if !slices.ContainsFunc(d.out.Problems, func(o problem.Problem) bool { return o.Code == p.Code && o.Subject == p.Subject }) {
		d.out.Problems = append(d.out.Problems, p)
	}
}

// others adds the entries of the operator's files and of what the store has for no site.
func (d *decision) others(needs []*need) {
	hosts := map[string][]string{} // by name of the file
	if len(d.Files.Pairs) > 0 {
		for _, w := range d.Wishes {
			if p, ok := d.Files.For(w.Host); ok {
				hosts[p.Name] = append(hosts[p.Name], w.Host)
			}
		}
	}
	for _, p := range d.Files.Pairs {
		slices.Sort(hosts[p.Name])
		e := Entry{Names: p.Names(), Issuer: p.Issuer, Source: "file", File: p.CertFile, KeyType: p.KeyType, NotBefore: p.NotBefore, NotAfter: p.NotAfter, State: Valid, Hosts: append([]string{}, slices.Compact(hosts[p.Name])...)}
		for _, a := range p.IPs {
			e.Names = append(slices.Clip(e.Names), a.String())
		}
		if d.Settings.On() && len(e.Hosts) > 0 && p.NotAfter.After(d.Now) {
			e.Reason = "your file comes before an order"
		}
		switch overdue, soon := Expiring(d.Now, p.NotBefore, p.NotAfter); {
		case !p.NotAfter.After(d.Now):
			e.State, e.Problem = Expired, "cert-expired"
		case overdue || soon:
			e.State, e.Problem = Overdue, "cert-expiring"
		}
		e.Overdue = e.State != Valid
		d.out.Entries = append(d.out.Entries, e)
	}
	needed := map[string]bool{}
	for _, n := range needs {
		needed[n.id], needed[n.held.ID] = true, true
	}
	for _, h := range d.Held {
		if !h.NotAfter.After(d.Now) || needed[h.ID] {
			continue
		}
		e := h.entry()
		e.Reason = "no site needs it, so it is not renewed"
		d.out.Entries = append(d.out.Entries, e)
	}
}

// directories adds the problems of CAs.
func (d *decision) directories() {
	for _, directory := range d.Settings.Directories {
		l := d.Ledgers[directory]
		if l.Faults == 0 || !d.Settings.On() {
			continue
		}
		const hint = "correct certs.acme where the CA's words name it, as an account that it refuses; else see whether it can be reached from here over HTTPS (nagaya doctor), and its status page; sites keep the certificates that they have"
		p := problem.Of("acme "+nameOf(directory), "acme-failed", hint, "%s failed %s, the last time because of %.*q", nameOf(directory), times(l.Faults), mostReason, l.Fault)
		if until := l.pause(d.Now); until.After(d.Now) {
			p.Text += "; it is asked again at " + until.UTC().Format(time.RFC3339)
		}
		d.out.Problems = append(d.out.Problems, p.AsWarning())
	}
}
