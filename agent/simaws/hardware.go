package simaws

import "slices"

// hardware is what the cloud knows about an instance type.
type hardware struct {
	name      string
	vcpus     int
	memoryMiB int
	arch      string
	xen       bool
	maxENIs   int
	// earnPerHour is in credits (vCPU-minutes) an hour; zero for a type that is
	// not burstable.
	earnPerHour float64
	// launch are the credits that a T2 in standard mode is given at its start.
	launch float64
}

func (h hardware) burstable() bool { return h.earnPerHour > 0 }

// full is what a balance can hold: what is earned in 24 hours (EC2 User Guide,
// "Key concepts for burstable performance instances").
func (h hardware) full() float64 { return 24 * h.earnPerHour }

// The rows are those of the EC2 User Guide: "Key concepts for burstable
// performance instances" (credits an hour, vCPUs), "Standard mode concepts"
// (launch credits of T2), "Elastic network interfaces" (interfaces).
var (
	t2Sizes = []hardware{
		{"nano", 1, 512, "x86_64", true, 2, 3, 30},
		{"micro", 1, 1024, "x86_64", true, 2, 6, 30},
		{"small", 1, 2048, "x86_64", true, 3, 12, 30},
		{"medium", 2, 4096, "x86_64", true, 3, 24, 60},
		{"large", 2, 8192, "x86_64", true, 3, 36, 60},
		{"xlarge", 4, 16384, "x86_64", true, 3, 54, 120},
		{"2xlarge", 8, 32768, "x86_64", true, 3, 81.6, 240},
	}
	t3Sizes = []hardware{
		{"nano", 2, 512, "x86_64", false, 2, 6, 0},
		{"micro", 2, 1024, "x86_64", false, 2, 12, 0},
		{"small", 2, 2048, "x86_64", false, 3, 24, 0},
		{"medium", 2, 4096, "x86_64", false, 3, 24, 0},
		{"large", 2, 8192, "x86_64", false, 3, 36, 0},
		{"xlarge", 4, 16384, "x86_64", false, 4, 96, 0},
		{"2xlarge", 8, 32768, "x86_64", false, 4, 192, 0},
	}
	steadySizes = []hardware{
		{"m5.large", 2, 8192, "x86_64", false, 3, 0, 0},
		{"m6g.large", 2, 8192, "arm64", false, 3, 0, 0},
		{"c5.large", 2, 4096, "x86_64", false, 3, 0, 0},
		{"r5.large", 2, 16384, "x86_64", false, 3, 0, 0},
	}
)

var catalog = buildCatalog()

func buildCatalog() []hardware {
	var all []hardware
	add := func(family, arch string, sizes []hardware) {
		for _, h := range sizes {
			h.name = family + "." + h.name
			h.arch = arch
			if h.name == "t3a.small" {
				h.maxENIs = 2
			}
			all = append(all, h)
		}
	}
	add("t2", "x86_64", t2Sizes)
	add("t3", "x86_64", t3Sizes)
	add("t3a", "x86_64", t3Sizes)
	add("t4g", "arm64", t3Sizes)
	add("t8i", "x86_64", t3Sizes[:4]) // nano to medium are all there are; its interfaces are in no list yet
	return append(all, steadySizes...)
}

func hardwareOf(name string) (hardware, bool) {
	i := slices.IndexFunc(catalog, func(h hardware) bool { return h.name == name })
	if i < 0 {
		return hardware{}, false
	}
	return catalog[i], true
}
