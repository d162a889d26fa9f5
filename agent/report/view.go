package report

import (
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// View is the status as the page shows it and as its API returns it. docs/page.md describes its JSON,
// to which fields are added and in which none changes its meaning. Lists are never null.
type View struct {
	Version   string    `json:"version"`
	Machine   string    `json:"machine"`
	StartedAt time.Time `json:"started_at"`
	At        time.Time `json:"at"`
	// State has the lines of 'nagaya status'.
	State    []Line        `json:"state"`
	Problems []ProblemView `json:"problems"`
	Credits  CreditView    `json:"credits"`
	Gate     GateView      `json:"gate"`
	// Hosts are the sites, and after them the streams.
	Hosts []HostView `json:"hosts"`
	// Counted is since when requests are counted; Uncounted says why they are not, if they are not.
	Counted   time.Time     `json:"counted_since,omitzero"`
	Uncounted string        `json:"not_counted,omitempty"`
	Addresses []AddressView `json:"addresses"`
}

// Line is one line of the state: what it is about, and how that stands.
type Line struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// ProblemView is a standing problem with the command that shows its lines of the journal.
type ProblemView struct {
	problem.Problem
	Journal string `json:"journal"`
}

// CreditView is what is known about the CPU credits. While Known is false the numbers mean nothing.
type CreditView struct {
	Known       bool            `json:"known"`
	Mode        string          `json:"mode,omitempty"`
	Balance     float64         `json:"balance"`
	Error       float64         `json:"balance_error"`
	Surplus     float64         `json:"surplus"`
	Max         float64         `json:"max"`
	EarnPerHour float64         `json:"earned_per_hour"`
	Forecast    []ForecastPoint `json:"forecast"`
}

// ForecastPoint is the balance that is expected for a time if no batch runs: at usual demand of the
// services, and at high demand throughout.
type ForecastPoint struct {
	At    time.Time `json:"at"`
	Usual float64   `json:"usual"`
	High  float64   `json:"high"`
}

// GateView is the gate with its jobs, the most urgent first. Amounts are CPU credits.
type GateView struct {
	Word     string    `json:"state"` // open, closed or undecided
	Since    time.Time `json:"since,omitzero"`
	Reason   string    `json:"reason"`
	OpensAt  time.Time `json:"opens_at,omitzero"`
	Reserve  float64   `json:"reserve"`
	Headroom float64   `json:"headroom"`
	Promised float64   `json:"promised"`
	Free     float64   `json:"free"`
	Jobs     []JobView `json:"jobs"`
}

// JobView is a job: Promised is what it is expected to spend in all, and Spent what it has spent.
type JobView struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Promised float64   `json:"promised"`
	Spent    float64   `json:"spent"`
	Since    time.Time `json:"since"`
	Changed  time.Time `json:"changed"`
	Deadline time.Time `json:"deadline,omitzero"`
	Overdue  bool      `json:"overdue"`
	Reason   string    `json:"reason"`
	Journal  string    `json:"journal"`
}

// HostView is a host, or a port of its own such as "tcp:2222", and what is behind it.
type HostView struct {
	Host   string `json:"host"`
	Family string `json:"family"`
	// State is live, partly (a path without a container) or vacant.
	State       string           `json:"state"`
	TLS         bool             `json:"tls"`
	Upstreams   []UpstreamView   `json:"upstreams"`
	Certificate *CertificateView `json:"certificate,omitempty"`
	// Traffic is what a site has served since View.Counted, Stream the same of a port; null where nothing is counted.
	Traffic *traffic.Host   `json:"traffic,omitempty"`
	Stream  *traffic.Stream `json:"stream,omitempty"`
	Journal string          `json:"journal"`
}

// UpstreamView is one container behind a path of a host. State is ready, unhealthy or wrong-protocol.
type UpstreamView struct {
	Path  string `json:"path"`
	Addr  string `json:"addr"`
	Task  string `json:"task"`
	State string `json:"state"`
}

// CertificateView is the certificate of a host. Days are the whole ones that are left, negative ones after it has
// expired; Bad is true of one that has expired, or should have been renewed, or cannot be had.
type CertificateView struct {
	State    string    `json:"state"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Renewal  time.Time `json:"renewal,omitzero"`
	Days     int       `json:"days"`
	Bad      bool      `json:"bad"`
	Reason   string    `json:"reason,omitempty"`
}

// AddressView is a claimed address and who holds it.
type AddressView struct {
	Claim     string    `json:"claim"`
	Address   string    `json:"address,omitempty"`
	Held      bool      `json:"held"`
	Holder    string    `json:"holder,omitempty"`
	Policy    string    `json:"policy"`
	Since     time.Time `json:"since,omitzero"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	Text      string    `json:"text"`
	Journal   string    `json:"journal"`
}

// View is the status for the page.
func (s Status) View() View {
	v := View{
		Version: s.Version, Machine: s.machine(), StartedAt: s.StartedAt, At: s.At, State: s.State(),
		Problems: []ProblemView{}, Credits: s.creditView(), Gate: s.gateView(), Hosts: s.hostViews(), Addresses: []AddressView{},
		Counted: s.Traffic.Since, Uncounted: s.Traffic.Unavailable,
	}
	for _, p := range s.Problems {
		v.Problems = append(v.Problems, ProblemView{p, Journal("NAGAYA_PROBLEM", p.Code)})
	}
	for _, c := range s.Address.All() {
		a := AddressView{
			Claim: c.Claim, Held: c.Held(), Policy: string(c.Policy), Since: c.Since, CheckedAt: c.CheckedAt, Text: s.claimLine(c),
			Journal: Journal("NAGAYA_CLAIM", c.Claim),
		}
		if c.Known {
			a.Address, a.Holder = c.Address.PublicIP.String(), c.Holder.String()
		}
		v.Addresses = append(v.Addresses, a)
	}
	return v
}

// Journal is the command that shows the entries of the journal that have a field with that value.
func Journal(field, value string) string { return "journalctl -u nagaya " + Quoted(field+"="+value) }

// Quoted is a word for a shell. What is no text becomes a space: such a name finds nothing, and does no harm.
func Quoted(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=.:/@%+-"
	word = problem.Printable(word, 400)
	if strings.Trim(word, plain) == "" {
		return word
	}
	quote := []string{"'", `'"'"'`}
	if strings.ContainsAny(word, "'") || strings.Contains(word, `\\`) || strings.HasSuffix(word, `\`) {
		quote = append(quote, `\`, `'"\\"'`) // fish takes these three for an escape between single quotes too
	}
	return "'" + strings.NewReplacer(quote...).Replace(word) + "'"
}

func (s Status) creditView() CreditView {
	c := s.Credit
	v := CreditView{
		Known: c.Known, Mode: string(c.Mode), Balance: c.Balance, Error: c.ErrorBar, Surplus: c.Surplus,
		Max: c.Max, EarnPerHour: c.EarnPerHour, Forecast: []ForecastPoint{},
	}
	for _, p := range c.Forecast {
		v.Forecast = append(v.Forecast, ForecastPoint{p.At, p.Balance, p.Low})
	}
	return v
}

func (s Status) gateView() GateView {
	d := s.Gate.Decision
	v := GateView{
		Word: s.gateWord(), Since: d.Since, Reason: d.Reason, OpensAt: d.OpensAt,
		Reserve: d.Reserve, Headroom: d.Headroom, Promised: d.Promised, Free: d.Free, Jobs: []JobView{},
	}
	for _, j := range d.Jobs {
		v.Jobs = append(v.Jobs, JobView{
			ID: j.ID, Name: j.Name, State: string(j.Phase), Promised: j.Expected, Spent: j.Spent, Since: j.Since, Changed: j.Changed,
			Deadline: j.Deadline, Overdue: j.Overdue, Reason: j.Told(), Journal: Journal("NAGAYA_JOB_ID", j.ID),
		})
	}
	return v
}

func (s Status) hostViews() []HostView {
	all, live, found := []HostView{}, s.Routes.LiveHosts(), s.certificateViews()
	hosts, ports := map[string]*traffic.Host{}, map[string]*traffic.Stream{}
	for i, h := range s.Traffic.Hosts {
		hosts[h.Host] = &s.Traffic.Hosts[i]
	}
	for i, x := range s.Traffic.Streams {
		ports[x.Listen] = &s.Traffic.Streams[i]
	}
	for i, p := range s.Routes.Places() {
		v := HostView{Host: p.Host, Family: p.Family, State: "live", Upstreams: []UpstreamView{}, Traffic: hosts[p.Host], Stream: ports[p.Host], Journal: Journal("NAGAYA_HOST", p.Host)}
		for _, key := range p.Keys {
			for _, x := range s.Routes.Pools[key].Servers {
				v.Upstreams = append(v.Upstreams, UpstreamView{Path: key.Path, Addr: x.Addr.String(), Task: x.Ref, State: x.State()})
			}
		}
		switch {
		case len(v.Upstreams) == 0:
			v.State = "vacant"
		case p.Listen.Port == 0 && !slices.Contains(live, p.Host):
			v.State = "partly"
		}
		if i < len(s.Routes.Sites) {
			site := s.Routes.Sites[i]
			v.TLS, v.Certificate = site.TLS || site.Passthrough != nil, found[site.Host]
		} else {
			stream := s.Routes.Streams[i-len(s.Routes.Sites)]
			v.TLS, v.Certificate = stream.Host != "", found[stream.Host]
		}
		all = append(all, v)
	}
	return all
}

// certificateViews are by host the certificates that its clients get, of several the one that ends first.
func (s Status) certificateViews() map[string]*CertificateView {
	all := map[string]*CertificateView{}
	for _, e := range s.Certificates().Entries {
		v := &CertificateView{State: string(e.State), NotAfter: e.NotAfter, Renewal: e.Renewal, Reason: e.Reason}
		v.Bad = e.Overdue || e.State == certs.Refused
		if !e.NotAfter.IsZero() {
			left := e.NotAfter.Sub(s.At)
			v.Days = int(left / (24 * time.Hour))
			if left <= 0 {
				v.State, v.Bad = string(certs.Expired), true
				v.Days--
			}
		}
		for _, host := range e.Hosts {
			if was, ok := all[host]; !ok || v.NotAfter.Before(was.NotAfter) {
				all[host] = v
			}
		}
	}
	return all
}
