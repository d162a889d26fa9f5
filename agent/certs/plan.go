package certs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// plan begins the order of what is due, or says why not.
func (d *decision) plan(n *need) {
	if n.byFile || !n.due {
		return
	}
	if n.refusal != nil {
		n.cause = *n.refusal
		return
	}
	lease := d.Leases[n.id]
	switch {
	case lease.Running || lease.Live:
		n.ordering = true
		return
	case d.behind:
		n.cause = cause{text: "the clock of this instance is behind: a certificate that was issued is not valid yet", code: "cert-order-failed", hint: "set the clock right (chronyc tracking)"}
		return
	case !d.ready():
		n.cause = cause{text: "the store of certificates has not been read yet"}
		return
	}
	s, until, why := d.start(n, lease)
	if n.cause = why; s.ID == "" {
		return
	}
	if until.After(d.Now) {
		d.wake(until)
		return
	}
	kinds, why := d.kinds(n)
	switch {
	case why.text != "":
		n.cause = why
	case d.running >= mostAtOnce || d.running > 0 && d.Ledgers[s.Directory].Faults > 0:
		n.cause = cause{text: "others are ordered first"}
	default:
		s.Kinds = kinds
		d.ledgers[s.Directory], _, _ = d.ledgers[s.Directory].Begin(s, d.Now)
		d.running++
		d.out.Start = append(d.out.Start, s)
		n.ordering, n.cause = true, cause{}
	}
}

// start is the order that may begin next for a need, and from when on. Of the directories that allow it now,
// or else of all, it is the one at which the names failed least, and of those the first, or else the one that
// allows it first.
func (d *decision) start(n *need, lease Lease) (best Start, until time.Time, why cause) {
	_, names, said := d.trouble(n)
	fewest := 0
	directories := n.directories
	if n.patient {
		directories = directories[:min(1, len(directories))]
	}
	for _, directory := range directories {
		l, ok := d.ledgers[directory]
		if !ok {
			continue
		}
		s, failed := d.startAt(n, directory, lease)
		t := later(names, l.wait(s, d.Now, 0))
		now, before := !t.After(d.Now), !until.After(d.Now)
		if best.ID == "" || now && !before || now == before && (failed < fewest || !now && failed == fewest && t.Before(until)) {
			best, until, fewest = s, t, failed
		}
	}
	l := d.ledgers[best.Directory]
	switch {
	case best.ID == "":
		return best, until, cause{text: "the ledger of the CA has not been read yet"}
	case fewest > 0:
		why = cause{code: "cert-order-failed", hint: "correct what the CA names: usually the host's DNS, port 80 in the security group, or a CAA record; it is tried again by itself"}
		why.text = fmt.Sprintf("%s refused it %s", nameOf(best.Directory), times(fewest))
		if said != "" {
			why.text += fmt.Sprintf(", the last time because of %.*q", mostReason, said)
		}
	case !until.After(d.Now):
		return best, until, cause{}
	case l.pause(d.Now).After(d.Now) && l.Faults == 0:
		why = cause{code: "cert-limited", hint: "see why the agent ended in the midst of them (journalctl -u nagaya), and wait"}
		why.text = fmt.Sprintf("orders at %s that did not end have used up its requests for an hour", nameOf(best.Directory))
	case l.pause(d.Now).After(d.Now):
		why.text = fmt.Sprintf("%s is left alone after failures", nameOf(best.Directory))
	default:
		key := best.Directory + " " + registered(n.Names[0])
		until = later(until, l.wait(best, d.Now, d.before[key]))
		d.before[key]++
		why = cause{code: "cert-limited", hint: "wait, order a wildcard (certs.acme.zones), or add another CA to certs.acme.directory"}
		why.text = fmt.Sprintf("the limits of %s allow no more now", nameOf(best.Directory))
	}
	if why.until = until; until.After(d.Now) {
		why.text += "; it is tried at " + until.UTC().Format(time.RFC3339)
	}
	return best, until, why
}

// trouble is what the ledgers of all CAs have of the names of a need: how often one failed, until when one waits for that,
// and what a CA said last.
func (d *decision) trouble(n *need) (failed int, until time.Time, said string) {
	var last time.Time
	for _, l := range d.ledgers {
		for _, name := range n.Names {
			f := l.Names[short(name)]
			failed = max(failed, f.Count)
			if f.Count > 0 {
				until = later(until, f.wait())
			}
			if f.Reason != "" && !f.Last.Before(last) {
				last, said = f.Last, f.Reason
			}
		}
	}
	return failed, until, said
}

// startAt is the order at one directory, and how often a name of it failed there.
func (d *decision) startAt(n *need, directory string, lease Lease) (s Start, failed int) {
	s = Start{ID: n.id, Host: n.Host, Family: n.Family, Names: n.Names, KeyType: n.key, Directory: directory, At: directory, Profile: d.Settings.Profile}
	if slices.Contains(profiles, n.Profile) {
		s.Profile = n.Profile
	}
	l := d.ledgers[directory]
	for _, name := range n.Names {
		f := l.Names[short(name)]
		failed = max(failed, f.Count)
		if staging := d.Settings.StagingOf(directory); staging != "" && f.Count >= 2 && !f.Passed {
			s.At = staging
		}
	}
	if lease.Directory == directory && lease.At != "" {
		s.At, s.Resume = lease.At, true
	}
	if h := n.held; n.has && h.ID == n.id && !s.Trial() {
		s.Lifetime = h.NotAfter.Sub(h.NotBefore)
		if h.Directory == directory && l.Windows[short(h.ID)].Replaced != h.CertID {
			s.Replaces = h.CertID
		}
	}
	return s, failed
}

// kinds are the kinds of challenges by which each name can be proven from here, or why one cannot.
func (d *decision) kinds(n *need) (map[string][]string, cause) {
	all := map[string][]string{}
	for _, name := range n.Names {
		why := d.byHTTP(name)
		if why.text == "" {
			all[name] = append(all[name], HTTP01)
		}
		if !isIP(name) && d.covers(name) {
			all[name] = append(all[name], DNS01)
		}
		if len(all[name]) == 0 {
			return nil, why
		}
		if n.failed%2 == 1 { // what failed may be closed
			slices.Reverse(all[name])
		}
	}
	return all, cause{}
}

// goodFor is how long it counts where a name leads, wrongFor where it leads elsewhere.
const goodFor, wrongFor = 10 * time.Minute, 2 * time.Minute

// byHTTP says why a name cannot be proven by HTTP from here.
func (d *decision) byHTTP(name string) cause {
	switch {
	case strings.HasPrefix(name, "*."):
		return cause{text: "a wildcard is proven by DNS"}
	case !d.Place.Known:
		return cause{text: "it is not known yet whether this instance has the address"}
	case !d.Place.Here:
		return cause{text: "another instance has the address, and orders it"}
	case isIP(name) || !d.Settings.CheckAddress:
		return cause{}
	}
	lead, known := d.Leads[name]
	if age := d.Now.Sub(lead.At); !known || age < 0 || age >= goodFor || age >= wrongFor && !d.leadsHere(lead) {
		if len(d.out.Look) < mostLooks && !slices.Contains(d.out.Look, name) {
			d.out.Look = append(d.out.Look, name)
		}
		if !known {
			return cause{text: "its public name is being looked up"}
		}
	}
	if d.leadsHere(lead) {
		return cause{}
	}
	d.wake(lead.At.Add(wrongFor))
	elsewhere := cause{code: "cert-host-elsewhere", hint: "point its A record (and AAAA record, if it has one) at this instance, add its zone to certs.acme.zones, or, where the public name cannot be seen from here, set certs.acme.check-address to false"}
	switch {
	case lead.Err != "":
		elsewhere.text = fmt.Sprintf("the name %s cannot be looked up (%s)", problem.Quoted(name), problem.Quoted(lead.Err))
	case len(lead.Addresses) == 0:
		elsewhere.text = fmt.Sprintf("the name %s has no address", problem.Quoted(name))
	default:
		elsewhere.text = fmt.Sprintf("the name %s leads to %s, and not to this instance (%s)", problem.Quoted(name), list(lead.Addresses), list(d.Place.Addresses))
	}
	return elsewhere
}

// leadsHere reports whether all addresses of a name are of this instance: a CA takes any of them.
func (d *decision) leadsHere(l Lead) bool {
	return l.Err == "" && len(l.Addresses) > 0 && !slices.ContainsFunc(l.Addresses, func(a netip.Addr) bool {
		return !slices.Contains(d.Place.Addresses, a.Unmap())
	})
}

// list has the first of addresses as text.
func list(all []netip.Addr) string {
	var text []string
	for _, a := range all[:min(len(all), 4)] {
		text = append(text, a.String())
	}
	return strings.Join(text, ", ")
}

// times is how often, in words.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
