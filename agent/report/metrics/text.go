package metrics

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// The text that Prometheus reads (its documentation, "Exposition formats") is written here: its client library
// takes two megabytes of a program.

// family is the metrics of one name.
type family struct {
	help  string
	lines []string
	// histogram is true for one whose lines stay in their order, which is that of the buckets.
	histogram bool
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// text is all of it, sorted by name and labels.
func (e emitter) text() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(e.families)) {
		f, kind := e.families[name], "gauge"
		switch {
		case f.histogram:
			kind = "histogram"
		case strings.HasSuffix(name, "_total"):
			kind = "counter"
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, f.help, name, kind)
		if !f.histogram {
			slices.Sort(f.lines)
		}
		for _, line := range f.lines {
			b.WriteString(line)
		}
	}
	return b.Bytes()
}

// process are what the client libraries of Prometheus say of every process, by the same names.
func (e emitter) process() {
	e.add("go_goroutines", "Number of goroutines that currently exist.", runtime.NumGoroutine())
	e.add("go_info", "Information about the Go environment.", 1, "version", runtime.Version())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.add("go_memstats_alloc_bytes", "Number of bytes allocated in heap and currently in use.", int(m.Alloc))
	e.add("go_memstats_sys_bytes", "Number of bytes obtained from system.", int(m.Sys))
	p, err := procfs.Self()
	if err != nil {
		return
	}
	if open, err := p.FileDescriptorsLen(); err == nil {
		e.add("process_open_fds", "Number of open file descriptors.", open)
	}
	st, err := p.Stat()
	if err != nil {
		return
	}
	e.add("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", st.CPUTime())
	e.add("process_resident_memory_bytes", "Resident memory size in bytes.", st.ResidentMemory())
	e.add("process_virtual_memory_bytes", "Virtual memory size in bytes.", int(st.VirtualMemory()))
	if at, err := st.StartTime(); err == nil {
		e.add("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", time.UnixMilli(int64(at*1000)))
	}
}
