package meter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

const (
	// userHZ is the unit of /proc/stat: the kernel scales to 100 a second for user space on every architecture Go runs on (proc(5)).
	userHZ = 100
	// mostStat bounds what is read of /proc/stat: the CPU lines come first.
	mostStat = 64 << 10
	mostCPUs = 4096
)

// procStat turns the counters of /proc/stat into counters that never go backwards.
type procStat struct {
	stat, boot  string
	buf         []byte
	seen        bool
	busy, steal uint64 // last raw values in ticks
	sumBusy     uint64 // raw at first, then with every forward step added
	sumSteal    uint64
}

func newProcStat(proc string) *procStat {
	return &procStat{
		stat: filepath.Join(proc, "stat"), boot: filepath.Join(proc, "sys/kernel/random/boot_id"),
		buf: make([]byte, mostStat),
	}
}

// read returns the CPU time since boot in credits. A counter that went backwards was reset:
// counting goes on from its new value.
func (p *procStat) read() (credit.CPU, error) {
	text, err := readInto(p.stat, p.buf)
	if err != nil {
		return credit.CPU{}, err
	}
	t, err := parseStat(text)
	if err != nil {
		return credit.CPU{}, fmt.Errorf("%s: %w", p.stat, err)
	}
	if !p.seen {
		p.sumBusy, p.sumSteal, p.seen = t.busy, t.steal, true
	} else {
		p.sumBusy += forward(p.busy, t.busy)
		p.sumSteal += forward(p.steal, t.steal)
	}
	p.busy, p.steal = t.busy, t.steal
	return credit.CPU{
		Known: true, Boot: p.bootID(), Online: t.online,
		Busy: ticksToCredits(p.sumBusy), Steal: ticksToCredits(p.sumSteal),
	}, nil
}

// bootID names the boot. Where the kernel does not tell, all boots look the same and only
// the counters going backwards give one away.
func (p *procStat) bootID() string {
	var buf [64]byte
	text, err := readInto(p.boot, buf[:])
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

func forward(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// ticksToCredits: a credit is a minute of one processor.
func ticksToCredits(ticks uint64) float64 { return float64(ticks) / userHZ / 60 }

// ticks is what parseStat finds.
type ticks struct {
	busy, steal uint64
	online      int
}

// parseStat reads the CPU lines. Busy is user, nice, system, irq and softirq: idle and iowait use nothing, steal was
// not given, and guest time is contained in user already (proc(5)). The sum line
// is used, because it does not fall when a processor goes off line.
func parseStat(text []byte) (ticks, error) {
	var t ticks
	found := false
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		name, rest, _ := bytes.Cut(line, []byte(" "))
		if !bytes.HasPrefix(name, []byte("cpu")) {
			break
		}
		if len(name) > len("cpu") {
			if t.online++; t.online > mostCPUs {
				return ticks{}, errors.New("too many processors")
			}
			continue
		}
		var err error
		if t.busy, t.steal, err = parseSum(rest); err != nil {
			return ticks{}, err
		}
		found = true
	}
	if !found {
		return ticks{}, errors.New("no line \"cpu\" at the beginning")
	}
	t.online = max(t.online, 1)
	return t, nil
}

// parseSum reads user nice system idle [iowait irq softirq steal guest guest_nice]; old kernels have fewer.
func parseSum(rest []byte) (busy, steal uint64, err error) {
	n := 0
	for f := range bytes.FieldsSeq(rest) {
		v, err := strconv.ParseUint(string(f), 10, 56)
		if err != nil {
			return 0, 0, fmt.Errorf("line \"cpu\": field %d is not a count: %.20q", n+1, f)
		}
		switch n {
		case 0, 1, 2, 5, 6:
			busy += v
		case 7:
			steal = v
		}
		n++
	}
	if n < 4 {
		return 0, 0, fmt.Errorf("line \"cpu\" has %d fields, want 4 or more", n)
	}
	return busy, steal, nil
}

// readInto reads a file from its beginning, as much as the buffer holds.
func readInto(path string, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return buf[:n], nil
}
