package certs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// need is one certificate that sites want.
type need struct {
	Wish
	id    string
	key   KeyType
	hosts []string
	since time.Time
	// directories are those that may issue it; refusal is why none may.
	directories []string
	refusal     *cause
	// held serves it, or did: has is true where there is one, valid until it expires.
	held       Held
	has, valid bool
	// byFile is true where files of the operator's serve it in its place.
	byFile  bool
	due     bool
	renewal time.Time
	// failed is how often a name of it failed; others is 1 where an order of its family failed lately, else
	// 0. patient is true where it need not be ordered from another CA than the preferred one: what it has is
	// valid for long enough.
	failed, others int
	patient        bool
	// ordering is true where an agent orders it now; cause is why it is not begun.
	ordering bool
	cause    cause
}

// cause is why an order does not begin.
type cause struct {
	text string
	// code and hint are of a problem; without code there is none as long as nothing is overdue.
	code, hint string
	// until is when it may begin; zero for when something changes.
	until time.Time
}

// needs are the certificates that sites ask for, each once.
func (d *decision) needs() (all []*need) {
	if !d.Settings.On() {
		return nil
	}
	at := map[string]*need{}
	for _, w := range append(slices.Clone(d.Wishes), d.addresses()...) {
		keys := d.Settings.Keys()
		if w.KeyType == ECDSA || w.KeyType == RSA {
			keys = []KeyType{w.KeyType}
		}
		for _, key := range keys {
			id := ID(w.Names, key)
			n := at[id]
			if n == nil {
				n = &need{Wish: w, id: id, key: key, since: d.Since[w.Host]}
				n.directories, n.refusal = d.choose(w)
				at[id] = n
				all = append(all, n)
			}
			if t := d.Since[w.Host]; t.Before(n.since) {
				n.since = t
			}
			n.hosts = append(n.hosts, w.Host)
			slices.Sort(n.hosts)
			n.hosts = slices.Compact(n.hosts)
		}
	}
	return all
}

// addresses are the wishes for the addresses themselves.
func (d *decision) addresses() (all []Wish) {
	if !d.Settings.IP || !d.Place.Here {
		return nil
	}
	for _, a := range d.Place.Addresses {
		if a.IsGlobalUnicast() && !a.IsPrivate() {
			all = append(all, Wish{Host: a.Unmap().String(), Names: []string{a.Unmap().String()}, Profile: "shortlived"})
		}
	}
	return all
}

// profiles are what a site may choose beside the operator's: those of Let's Encrypt.
var profiles = []string{"classic", "tlsserver", "shortlived"}

// choose says which directories may issue a certificate for the names.
func (d *decision) choose(w Wish) (fit []string, refusal *cause) {
	all := d.Settings.Directories
	if w.Directory != "" {
		allowed := slices.Contains(all, w.Directory) || slices.ContainsFunc(all, func(o string) bool { return w.Directory == d.Settings.StagingOf(o) })
		if allowed {
			all = []string{w.Directory}
		} else {
			d.problem(w.Host, "cert-choice-refused", problem.Warning, fmt.Sprintf("its container asks for a certificate of %s, which is not allowed; the operator's choice is ordered from", problem.Quoted(w.Directory)),
				"add the directory to certs.acme.directory, or remove the container's choice")
		}
	}
	if w.Profile != "" && w.Profile != d.Settings.Profile && !slices.Contains(profiles, w.Profile) {
		d.problem(w.Host, "cert-choice-refused", problem.Warning, fmt.Sprintf("its container asks for the profile %s, which is not allowed; the operator's is used", problem.Quoted(w.Profile)),
			"set certs.acme.profile, or remove the container's choice")
	}
	for _, directory := range all {
		r := check(w.Names, directory)
		if r == nil {
			fit = append(fit, directory)
		} else if refusal == nil {
			refusal = r
		}
	}
	if len(fit) > 0 {
		refusal = nil
	}
	for _, name := range w.Names {
		if a, err := netip.ParseAddr(name); err == nil && refusal == nil && d.Place.Known && !slices.Contains(d.Place.Addresses, a) {
			refusal = refusalOf(name, "it is no address of this instance", "ask for a host name, or claim the address (address.claim)")
		}
		if strings.HasPrefix(name, "*.") && refusal == nil && !d.covers(name) {
			refusal = refusalOf(name, "a wildcard is proven by DNS, and no zone of certs.acme.zones has it", "add its zone of Route 53 to certs.acme.zones, or name the hosts")
		}
	}
	return fit, refusal
}

func (d *decision) covers(name string) bool { return d.Covers != nil && d.Covers(name) }

// stand says how it stands with a need: what serves it, and whether it is due.
func (d *decision) stand(n *need) {
	d.out.Wanted = append(d.out.Wanted, n.id)
	if n.byFile = d.byFiles(n.Names); n.byFile {
		return
	}
	for _, name := range hostNames(n.Names[0]) {
		for _, i := range d.naming[name] {
			if h := d.Held[i]; h.KeyType == n.key && (h.ID == n.id || covers(h.Names, n.Names)) {
				n.serve(h, d.Now)
			}
		}
	}
	if !n.has {
		n.due = true
		return
	}
	d.out.Wanted = append(d.out.Wanted, n.held.ID)
	w := d.window(n.held)
	n.renewal = w.Moment(n.held.ID, d.Settings.Seed)
	overdue, _ := Late(d.Now, n.held.NotBefore, n.held.NotAfter, w)
	n.patient = n.valid && !overdue
	// Another wanted one renews itself, and does so for all that it serves.
	n.due = !n.valid || !n.renewal.After(d.Now) && (n.held.ID == n.id || !d.byID[n.held.ID] || overdue)
	for _, host := range n.hosts {
		if last, asked := d.Asked[host]; asked && n.held.Number <= last && n.held.ID == n.id {
			n.due, n.renewal = true, earlier(n.renewal, d.Now)
		}
	}
	if !n.due {
		d.wake(n.renewal)
	}
}

// serve has a certificate serve the need if it is better than what does: valid, its own, valid longest.
func (n *need) serve(h Held, now time.Time) {
	own, before := h.ID == n.id, n.held.ID == n.id
	valid := now.Before(h.NotAfter)
	if !n.has || valid && !n.valid || valid == n.valid && (own && !before || own == before && h.NotAfter.After(n.held.NotAfter)) {
		n.held, n.has, n.valid = h, true, valid
	}
}

// byFiles reports whether valid files of the operator's serve all the names.
func (d *decision) byFiles(names []string) bool {
	files := Inventory{At: d.Now, Pairs: d.Files.Pairs, Gone: d.Files.Gone}
	return len(files.Pairs) > 0 && !slices.ContainsFunc(names, func(name string) bool {
		p, found := files.For(name)
		return !found || files.givesWay(p)
	})
}

// window is when a certificate is to be renewed.
func (d *decision) window(h Held) Window { return d.Ledgers[h.Directory].window(h) }
