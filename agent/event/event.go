// Package event names what the journal records: the kinds of events, which
// systemd/nagaya.catalog explains, and the keys of what one is about.
package event

// Key is the attribute of a log line that names its kind.
const Key = "event"

// OfJob is the kind of event by which a job comes to a phase.
func OfJob(phase string) string { return "batch-" + phase }

// OfGate is the kind of event by which the gate opens or closes.
func OfGate(open bool) string {
	if open {
		return GateOpened
	}
	return GateClosed
}
