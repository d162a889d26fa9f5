// Package credit is the CPU-credit bank of a burstable instance as arithmetic:
// what AWS's rules make of the CPU time that is used, what the balance is
// between two answers of CloudWatch, and what it will be. It holds values and
// functions on them; package meter below it reads the machine and asks AWS.
//
// The unit is AWS's: one credit is one vCPU at 100 % for one minute, so a
// demand of one vCPU spends one credit a minute. Demand is given in vCPUs.
package credit

import "strings"

// Spec is what AWS promises for one burstable instance type.
type Spec struct {
	// Type is the instance type, e.g. "t3.small".
	Type string `json:"type"`
	// VCPUs is the number of virtual processors.
	VCPUs int `json:"vcpus"`
	// EarnPerHour is the number of credits earned in an hour while running.
	EarnPerHour float64 `json:"earn_per_hour"`
	// Max is the highest balance of earned credits: what 24 hours earn. It is also the most
	// surplus that an unlimited instance may owe before it is charged.
	Max float64 `json:"max"`
	// LaunchCredits is what a T2 in standard mode gets at launch, outside Max; 0 for the other families.
	LaunchCredits float64 `json:"launch_credits,omitempty"`
}

// Mode is the credit option of an instance.
type Mode string

// The two credit options of EC2. The zero Mode is treated as Standard.
const (
	Standard  Mode = "standard"
	Unlimited Mode = "unlimited"
)

// size is one row of AWS's tables.
type size struct {
	name   string
	vcpus  int
	earn   float64
	launch float64
}

// Vendor's tables: EC2 User Guide, "Key concepts for burstable performance
// instances" (credits earned per hour, maximum earned credits, vCPUs) and
// "Standard mode concepts" (launch credits). The baselines follow no formula, so
// they are data. Nano to 2xlarge are all the sizes there are, nano to medium of T8i.
var (
	sizesT2 = []size{
		{"nano", 1, 3, 30},
		{"micro", 1, 6, 30},
		{"small", 1, 12, 30},
		{"medium", 2, 24, 60},
		{"large", 2, 36, 60},
		{"xlarge", 4, 54, 120},
		{"2xlarge", 8, 81.6, 240},
	}
	// T3, T3a, T4g and T8i share their numbers.
	sizesT3 = []size{
		{"nano", 2, 6, 0},
		{"micro", 2, 12, 0},
		{"small", 2, 24, 0},
		{"medium", 2, 24, 0},
		{"large", 2, 36, 0},
		{"xlarge", 4, 96, 0},
		{"2xlarge", 8, 192, 0},
	}
	families = []struct {
		name  string
		sizes []size
	}{{"t2", sizesT2}, {"t3", sizesT3}, {"t3a", sizesT3}, {"t4g", sizesT3}, {"t8i", sizesT3[:4]}}
)

// Lookup returns the numbers of an instance type. False means that the type
// is not in the table: it is not burstable, or newer than this program (see Burstable).
func Lookup(instanceType string) (Spec, bool) {
	for _, f := range families {
		for _, s := range f.sizes {
			if f.name+"."+s.name == instanceType {
				return Spec{
					Type: instanceType, VCPUs: s.vcpus, EarnPerHour: s.earn, Max: 24 * s.earn, LaunchCredits: s.launch,
				}, true
			}
		}
	}
	return Spec{}, false
}

// Burstable reports whether the name of an instance type belongs to a T family
// ("t" and a digit). A burstable type that Lookup does not know must not be
// mistaken for one without credits.
func Burstable(instanceType string) bool {
	return len(instanceType) > 1 && instanceType[0] == 't' && instanceType[1] >= '0' && instanceType[1] <= '9'
}

// Types returns the names of all known types, family by family and small to large.
func Types() (names []string) {
	for _, f := range families {
		for _, s := range f.sizes {
			names = append(names, f.name+"."+s.name)
		}
	}
	return names
}

// Baseline is the demand in vCPUs that earning just pays for.
func (s Spec) Baseline() float64 { return s.EarnPerHour / 60 }

// SurplusPrice is what a vCPU-hour of surplus costs on the type, in US dollars with Linux (EC2 User Guide, "Unlimited mode
// examples"; EC2 price list for T4g). Windows costs about twice as much. AWS has not published it for T8i: it is
// taken to be T3's.
func (s Spec) SurplusPrice() float64 {
	if strings.HasPrefix(s.Type, "t4g.") {
		return 0.04
	}
	return 0.05
}
