package credit

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Reading is everything the meter knows at one moment. Counters only grow within a boot and
// answers of AWS are repeated until there are newer ones, so a reading that is lost costs nothing.
type Reading struct {
	At time.Time `json:"at"`
	// InstanceID and Type are empty until the instance is known.
	InstanceID string `json:"instance_id,omitempty"`
	Type       string `json:"type,omitempty"`
	// StartedAt is when the instance was last started (not rebooted); zero when not known.
	StartedAt time.Time `json:"started_at,omitzero"`
	Mode      Mode      `json:"mode,omitempty"`
	ModeKnown bool      `json:"mode_known"`
	CPU       CPU       `json:"cpu"`
	Cloud     Cloud     `json:"cloud"`
	// Problems are what the meter could not read or ask.
	Problems []problem.Problem `json:"problems,omitempty"`
}

// CPU is the guest's view of CPU time, as counters in credits (minutes of one vCPU).
type CPU struct {
	// Known is false when the counters could not be read; the rest is then to be ignored.
	Known bool `json:"known"`
	// Boot names the boot: counters of different boots cannot be compared.
	Boot string `json:"boot,omitempty"`
	// Meter names the run of the meter, from which Batch counts.
	Meter string `json:"meter,omitempty"`
	// Online is the number of processors.
	Online int `json:"online"`
	// Busy is all CPU time used since boot, the batches' too. Idle, iowait and steal are not in it.
	Busy float64 `json:"busy"`
	// Batch is the batch containers' part since the meter began.
	Batch float64 `json:"batch"`
	// Steal is the time that processes wanted to run and the hypervisor did not let them.
	Steal float64 `json:"steal"`
	// Waiting is the minutes in which some process waited for a processor (PSI); it stays 0 where the kernel does not tell.
	Waiting float64 `json:"waiting,omitempty"`
}

// Cloud is what CloudWatch last said. A metric that is not Known was not answered
// or had no points: that is not 0.
type Cloud struct {
	// Balance is CPUCreditBalance, which includes T2 launch credits.
	Balance Metric `json:"balance"`
	// Surplus is CPUSurplusCreditBalance; it exists for unlimited instances only.
	Surplus Metric `json:"surplus"`
	// Usage is the newest points of CPUCreditUsage, oldest first, each the credits spent in Period from At.
	Usage []Measure `json:"usage,omitempty"`
}

// Metric is the newest point of a metric, if there is one.
type Metric struct {
	Known bool `json:"known"`
	Measure
}

// Measure is one point of CloudWatch: credits at a time.
type Measure struct {
	At    time.Time `json:"at,omitzero"`
	Value float64   `json:"value"`
}

// Period is the distance of CloudWatch's points for CPU credits. They exist at this
// frequency only (EC2 User Guide, "Monitor your CPU credits").
const Period = 5 * time.Minute
