package credit

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"time"
)

// UsageOf is the CPU time of a cgroup and all below it, in credits (minutes of one
// vCPU). text is that of file: nanoseconds in cpuacct.usage of version 1, usage_usec in
// cpu.stat of version 2 (kernel documentation, cgroup-v1/cpuacct and cgroup-v2).
func UsageOf(file string, text []byte) (float64, error) {
	unit := time.Nanosecond
	if path.Base(file) == "cpu.stat" {
		unit = time.Microsecond
		_, rest, ok := bytes.Cut(append([]byte("\n"), text...), []byte("\nusage_usec "))
		if !ok {
			return 0, fmt.Errorf("%s: no usage_usec", file)
		}
		text, _, _ = bytes.Cut(rest, []byte("\n"))
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: not a count: %.20q", file, text)
	}
	return float64(n) * float64(unit) / float64(time.Minute), nil
}
