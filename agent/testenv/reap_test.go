package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const victimVariable = "NAGAYA_TEST_VICTIM"

// victim is a test that starts what is nobody's child, says so, and hangs.
func victim(dir string) {
	EndWithTest(dir)
	// The outer shell ends at once; what it leaves has left its session too, and one has only a file in dir open.
	script := `cd / && { setsid sh -c 'echo $$ >&2; while :; do sleep 1; done' "$0" & setsid sleep 1000 >"$0/log" & echo $! >&2; }`
	cmd := exec.Command("sh", "-c", script, dir)
	cmd.Stderr = os.Stdout
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
	select {}
}

// What a test has started ends when the test is killed.
func TestEndWithTest(t *testing.T) {
	if dir := os.Getenv(victimVariable); dir != "" {
		go time.AfterFunc(time.Minute, func() { os.Exit(1) })
		victim(dir)
	}
	dir, err := os.MkdirTemp("", "victim")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestEndWithTest$")
	cmd.Env = append(os.Environ(), victimVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for lines := bufio.NewScanner(out); len(pids) < 2 && lines.Scan(); {
		pid, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("%d does not run: %v", pid, err)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(dir)
		gone := errors.Is(err, os.ErrNotExist)
		for _, pid := range pids {
			state, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
			gone = gone && (len(state) == 0 || strings.Contains(string(state), ") Z"))
		}
		if gone && len(pids) == 2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v still run, or %s is still there", pids, dir)
		}
	}
}
