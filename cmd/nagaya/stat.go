package main

import (
	"strconv"
	"strings"
)

// userHZ is the unit of the times in /proc/PID/stat: a hundredth of a second on
// every architecture that Linux runs on with EC2 (proc(5), sysconf(_SC_CLK_TCK)).
const userHZ = 100

// statMinutes reads the CPU time out of the text of /proc/PID/stat: fields 14 to
// 17, user and system time of the process and of its children that have ended.
func statMinutes(text string) float64 {
	// The second field is the name in parentheses and may hold anything.
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return 0
	}
	fields := strings.Fields(text[i+1:])
	const utime = 11 // field 14, counted from field 3
	if len(fields) < utime+4 {
		return 0
	}
	ticks := 0.0
	for _, f := range fields[utime : utime+4] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += float64(n)
	}
	return ticks / userHZ / 60
}
