package main

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestPagesOfTheProgramAreReleased(t *testing.T) {
	before := residentOfFiles(t)
	if err := releaseMemory(); err != nil {
		t.Fatal(err)
	}
	after := residentOfFiles(t)
	if after > before*3/4 {
		t.Errorf("%d KiB of the program were resident, and %d still are; want three quarters at most", before, after)
	}
}

// residentOfFiles reads how much of its files the process has mapped, in KiB
// (proc_pid_status(5), RssFile).
func residentOfFiles(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s*(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no RssFile in %s", b)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
