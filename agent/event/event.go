// Package event names what the journal records: the kinds of events, each with its
// MESSAGE_ID, and the keys of the fields that describe one.
package event

// Key is the attribute of a log line that names its kind.
const Key = "event"

// Kind is one kind of event.
type Kind struct {
	// Name is a kebab-case word: the value of NAGAYA_EVENT=.
	Name string
	// ID is the journal's MESSAGE_ID= of the kind: 32 lower-case hexadecimal digits,
	// under which systemd/nagaya.catalog explains it.
	ID string
	// Daily is how often a healthy day has it at most: one with twenty services that
	// are each deployed once, three nightly jobs, a restart of the agent and a
	// certificate that is renewed.
	Daily int
}

// ID returns the MESSAGE_ID of a kind of event or of a problem's code; empty for
// any other word.
func ID(name string) string { return ids[name] }

var ids = func() map[string]string {
	all := map[string]string{}
	for _, kinds := range [][]Kind{Kinds, Problems} {
		for _, k := range kinds {
			all[k.Name] = k.ID
		}
	}
	return all
}()

// OfJob is the kind of event by which a job comes to a phase.
func OfJob(phase string) string { return "batch-" + phase }

// OfGate is the kind of event by which the gate opens or closes.
func OfGate(open bool) string {
	if open {
		return GateOpened
	}
	return GateClosed
}
