package testenv

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// reapVariable makes a test binary the reaper of another one.
const reapVariable = "NAGAYA_TEST_REAPER"

func init() {
	if os.Getenv(reapVariable) != "" {
		reap(os.Stdin)
		os.Exit(0)
	}
}

// EndWithTest has everything that runs in a temporary directory end with this process, however that
// ends, and the directory go. An nginx is nobody's child once it has started, and a test that is
// killed cleans up nothing.
func EndWithTest(dir string) {
	if to, err := reaper(); err == nil {
		_, _ = io.WriteString(to, dir+"\n")
	}
}

// reaper starts one more process of this binary. The kernel closes the pipe to it when this one ends.
var reaper = sync.OnceValues(func() (io.Writer, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), reapVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is not for it
	to, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return to, cmd.Start()
})

// reap reads directories, one a line, until there are no more.
func reap(from io.Reader) {
	var dirs []string
	for lines := bufio.NewScanner(from); lines.Scan(); {
		if dir := lines.Text(); strings.HasPrefix(dir, filepath.Clean(os.TempDir())+"/") {
			dirs = append(dirs, dir)
		}
	}
	for range 100 { // what is killed may have started something meanwhile
		left := 0
		procs, _ := procfs.AllProcs()
		for _, p := range procs {
			if p.PID > 1 && p.PID != os.Getpid() && runsIn(p, dirs) {
				left++
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
			}
		}
		if left == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, dir := range dirs {
		_ = os.RemoveAll(dir)
	}
}

// runsIn reports whether a process has one of the directories in its command line, or a file in it
// open, as the workers of an nginx have.
func runsIn(p procfs.Proc, dirs []string) bool {
	words, _ := p.CmdLine() // what cannot be read is not this user's
	open, _ := p.FileDescriptorTargets()
	return slices.ContainsFunc(slices.Concat(words, open), func(name string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.Contains(name+"/", dir+"/") })
	})
}
