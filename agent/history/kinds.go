package history

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
)

// Ring is a file in which the newest events take the place of the oldest.
type Ring struct {
	Name   string
	Places int
	// Burst events of one kind and subject are kept at once, and one more each hour after that, so that what
	// comes again and again does not push out all else: an agent that crashes in a loop closes the gate each time.
	Burst int
}

// Rings are the rings of events. Each has its own, so that deployments do not push out who held the address.
var Rings = []Ring{
	{"address-events", 1024, 20},
	{"serving-events", 4096, 20},
	{"batch-events", 4096, 200},
}

const ofAddress, ofServing, ofBatches = 0, 1, 2

// kind is how a line of the journal becomes an event.
type kind struct {
	group string
	ring  int
	// subject is the key of the field that says what it is about.
	subject string
	// text has the keys of further fields in braces.
	text    string
	numbers []figure
	// quiet is set of what the journal does not have; the lines before it, about the same subject, have it.
	quiet bool
}

// figure is a number of an event: the key of its field, and its name.
type figure struct{ key, name string }

var (
	ofGate   = []figure{{"credits", "balance"}, {"error_bar", "balance_error"}, {"reserve", "reserve"}, {"free", "free"}, {"promised", "promised"}}
	ofJob    = []figure{{"declared", "declared"}, {"expected", "promised"}, {"spent", "spent"}, {"took", "waited_seconds"}}
	ofRun    = []figure{{"declared", "declared"}, {"expected", "promised"}, {"spent", "spent"}, {"took", "ran_seconds"}}
	ofReload = []figure{{"took", "seconds"}, {"quarantined", "quarantined"}}
)

// kinds are the lines of the journal that are remembered.
var kinds = map[string]kind{
	event.AgentStarted:           {"agent", ofAddress, "version", "", nil, false},
	event.AgentStopped:           {"agent", ofAddress, "", "{err}", []figure{{"after", "ran_seconds"}}, false},
	event.ConfigTaken:            {"agent", ofAddress, "file", "", nil, false},
	event.ConfigRefused:          {"agent", ofAddress, "file", "{err}", nil, false},
	event.NoticeReceived:         {"agent", ofAddress, "kind", "{text}", nil, false},
	event.AddressHeld:            {"address", ofAddress, "address", "held here, on {private_addr}", nil, false},
	event.AddressLost:            {"address", ofAddress, "address", "now with {holder} {holder_id}", nil, false},
	event.AddressReleased:        {"address", ofAddress, "address", "released by the operator", nil, false},
	event.HolderChanged:          {"address", ofAddress, "address", "now with {holder} {holder_id}", nil, false},
	event.ServiceDeployed:        {"deploy", ofServing, "family", "{old} → {new}", []figure{{"servers", "containers"}, {"took", "seconds"}}, true},
	event.NginxStarted:           {"nginx", ofServing, "generation", "", ofReload, false},
	event.NginxReloaded:          {"nginx", ofServing, "generation", "", ofReload, false},
	event.NginxRolledBack:        {"nginx", ofServing, "generation", "{err}", nil, false},
	event.NginxEnded:             {"nginx", ofServing, "", "", nil, false},
	event.SiteRefused:            {"nginx", ofServing, "host", "{err}", nil, false},
	event.ChangeRefused:          {"nginx", ofServing, "family", "{err}", nil, false},
	event.SnippetRefused:         {"nginx", ofServing, "file", "{err}", nil, false},
	event.CertificateOrdered:     {"certificate", ofServing, "host", "from {ca}", []figure{{"took", "seconds"}}, false},
	event.CertificateRenewed:     {"certificate", ofServing, "host", "from {ca}", []figure{{"took", "seconds"}}, false},
	event.CertificateOrderFailed: {"certificate", ofServing, "host", "{err}", []figure{{"took", "seconds"}}, false},
	event.GateOpened:             {"gate", ofBatches, "", "{reason}", ofGate, false},
	event.GateClosed:             {"gate", ofBatches, "", "{reason}", ofGate, false},
	event.BatchAdmitted:          {"job", ofBatches, "job_id", "{job}: {reason}", ofJob, false},
	event.BatchRunning:           {"job", ofBatches, "job_id", "{job}: {reason}", ofJob, false},
	event.BatchRefused:           {"job", ofBatches, "job_id", "{job}: {reason}", ofJob, false},
	event.BatchDone:              {"job", ofBatches, "job_id", "{job}: {reason}", ofRun, false},
}

// Kinds are the names of all kinds that are remembered, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Remembers reports whether lines of that kind are.
func Remembers(name string) bool { _, ok := kinds[name]; return ok }

// Fields are the keys of the fields that an event of a kind is made of.
func Fields(name string) (keys []string) {
	k := kinds[name]
	for _, key := range braces.FindAllString(k.text, -1) {
		keys = append(keys, strings.Trim(key, "{}"))
	}
	if k.subject != "" {
		keys = append(keys, k.subject)
	}
	for _, n := range k.numbers {
		keys = append(keys, n.key)
	}
	return keys
}

// Ring is that of the event's kind in Rings.
func (e Event) Ring() int { return kinds[e.Kind].ring }

// fill puts the fields into the text.
func (k kind) fill(fields map[string]string) string {
	return braces.ReplaceAllStringFunc(k.text, func(key string) string { return fields[strings.Trim(key, "{}")] })
}

var braces = regexp.MustCompile(`{\w+}`)

// Sieve holds back events of a ring that come too often. The zero value has seen none.
type Sieve struct {
	spent map[[2]string]*taken
}

// taken is how much of its burst a kind with a subject has taken, as of a time.
type taken struct {
	events  float64
	at      time.Time
	skipped uint32
}

// mostSubjects bounds what is remembered of subjects. Where there are more, those that have not come lately are forgotten.
const mostSubjects = 1024

// Keeps reports whether an event is kept, and returns it with the number of those that were not before it.
func (s *Sieve) Keeps(r Ring, e Event) (Event, bool) {
	if s.spent == nil {
		s.spent = map[[2]string]*taken{}
	}
	left := func(p *taken) float64 { return max(0, p.events-max(0, e.At.Sub(p.at).Hours())) }
	key := [2]string{e.Kind, e.Subject}
	if kinds[e.Kind].subject == "generation" { // which is another each time
		key[1] = ""
	}
	p := s.spent[key]
	if p == nil {
		if len(s.spent) >= mostSubjects {
			maps.DeleteFunc(s.spent, func(_ [2]string, p *taken) bool { return left(p) == 0 })
		}
		if len(s.spent) >= mostSubjects {
			clear(s.spent)
		}
		p = &taken{at: e.At}
		s.spent[key] = p
	}
	p.events, p.at = left(p), e.At
	if p.events+1 > float64(r.Burst) {
		p.skipped++
		return e, false
	}
	p.events++
	e.Skipped, p.skipped = p.skipped, 0
	return e, true
}
