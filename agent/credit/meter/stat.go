package meter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

const (
	// ticksPerCredit are a minute of one processor: the kernel scales to 100 a second for user space on every architecture Go
	// runs on (proc(5)).
	ticksPerCredit = 100 * 60
	// mostStat bounds what is read of /proc/stat: the lines of the processors come first.
	mostStat = 64 << 10
)

// procStat turns the counters of /proc/stat into counters that never go backwards.
type procStat struct {
	dir  string // where procfs is mounted
	last ticks  // as they were read
	sum  ticks  // as they were read at first, and every step forward since
	seen bool
	// noPressure is set once the kernel has not told how long processes wait: it never will.
	noPressure bool
}

// ticks is what /proc/stat says of the CPU time since boot.
type ticks struct {
	busy, steal uint64
	waiting     uint64 // microseconds in which some process waited
	online      int    // processors
}

// read returns the CPU time since boot in credits. A counter that went backwards was reset:
// counting goes on from its new value.
func (p *procStat) read() (credit.CPU, error) {
	file := filepath.Join(p.dir, "stat")
	text, err := readStart(file)
	if err != nil {
		return credit.CPU{}, err
	}
	now, err := parseStat(text)
	if err != nil {
		return credit.CPU{}, fmt.Errorf("%s: %w", file, err)
	}
	now.waiting = p.waiting()
	if !p.seen {
		p.sum, p.last, p.seen = now, now, true
	}
	p.sum.busy += forward(p.last.busy, now.busy)
	p.sum.steal += forward(p.last.steal, now.steal)
	p.sum.waiting += forward(p.last.waiting, now.waiting)
	p.last = now
	// Where the kernel does not name the boot, only counters that go backwards show another one.
	boot, _ := readStart(filepath.Join(p.dir, "sys/kernel/random/boot_id"))
	return credit.CPU{
		Known: true, Boot: strings.TrimSpace(boot), Online: now.online,
		Busy: float64(p.sum.busy) / ticksPerCredit, Steal: float64(p.sum.steal) / ticksPerCredit,
		Waiting: (time.Duration(p.sum.waiting) * time.Microsecond).Minutes(),
	}, nil
}

// waiting reads the kernel's pressure stall information, which kernels have from 4.20 on unless it is switched off.
func (p *procStat) waiting() uint64 {
	if p.noPressure {
		return 0
	}
	fs, err := procfs.NewFS(p.dir)
	if err == nil {
		if psi, err := fs.PSIStatsForResource("cpu"); err == nil && psi.Some != nil {
			return psi.Some.Total
		}
	}
	p.noPressure = true
	return 0
}

func forward(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// readStart reads the beginning of a file.
func readStart(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostStat))
	return string(text), err
}

// parseStat reads the lines of the processors (proc(5)): user nice system idle [iowait irq softirq steal guest guest_nice], of
// which old kernels have fewer. Idle and iowait use nothing, steal was not given, and guest time is part of user. The
// sum is the line "cpu", because that does not fall when a processor goes off line.
func parseStat(text string) (ticks, error) {
	var t ticks
	found := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			break
		}
		if f[0] != "cpu" {
			t.online++
			continue
		}
		if len(f) < 5 {
			return ticks{}, fmt.Errorf("line \"cpu\" has %d fields, want 4 or more", len(f)-1)
		}
		found = true
		for i, field := range f[1:] {
			v, err := strconv.ParseUint(field, 10, 56)
			if err != nil {
				return ticks{}, fmt.Errorf("line \"cpu\": field %d is not a count: %.20q", i+1, field)
			}
			switch i {
			case 0, 1, 2, 5, 6:
				t.busy += v
			case 7:
				t.steal = v
			}
		}
	}
	if !found {
		return ticks{}, errors.New("no line \"cpu\" at the beginning")
	}
	t.online = max(t.online, 1)
	return t, nil
}
