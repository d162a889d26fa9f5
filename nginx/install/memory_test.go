package install

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// With every map nginx takes and frees more than a megabyte; the pages shall be
// fetched from the kernel once, not for each map again.
func TestReadingMapsDoesNotFetchTheSameMemoryAgain(t *testing.T) {
	g := newRig(t)
	var maps strings.Builder
	for i := range 40 {
		fmt.Fprintf(&maps, "map $host $m%d { default 1; }\n", i)
	}
	faults := func(conf string, env []string) int64 {
		file := t.TempDir() + "/" + nginx.MainFile
		write(t, file, "error_log stderr;\npid "+t.TempDir()+"/pid;\nevents {}\nhttp {\naccess_log off;\n"+conf+"}\n")
		cmd := exec.Command(g.o.Binary, "-t", "-c", file, "-e", "stderr")
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt
	}
	none, all := faults("", environment()), faults(maps.String(), environment())
	careless := faults(maps.String(), nil)
	t.Logf("page faults: %d without maps, %d with 40, %d if glibc may give memory back", none, all, careless)
	if all-none > (careless-none)/5 {
		t.Errorf("40 maps cost %d page faults, and %d if glibc may give memory back; want a fifth at most", all-none, careless-none)
	}
}

// What is read for a test alone is read with fewer page faults still.
func TestATestFetchesMemoryInLargeSteps(t *testing.T) {
	if b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || strings.Contains(string(b), "[never]") {
		t.Skip("this kernel gives no huge pages")
	}
	g := newRig(t)
	st := &store{dir: g.o.StateDir}
	if err := st.prepare(g.o.RunDir, g.o.LogDir); err != nil {
		t.Fatal(err)
	}
	if err := st.stage(manySites(t, g, 100)); err != nil {
		t.Fatal(err)
	}
	faults := func(env []string) int64 {
		cmd := exec.Command(g.o.Binary, "-t", "-c", st.staged()+"/"+nginx.MainFile, "-p", st.dir, "-e", "stderr")
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt
	}
	large, small := faults(append(environment(), briefly...)), faults(environment())
	t.Logf("page faults: %d, and %d in small steps", large, small)
	if large > small*2/3 {
		t.Errorf("a test took %d page faults, and %d in small steps; want two thirds at most", large, small)
	}
}

// What the master has freed is not left to its next workers to sort, page by page.
func TestANewWorkerDoesNotSortWhatTheMasterFreed(t *testing.T) {
	g := newRig(t)
	st := &store{dir: g.o.StateDir}
	if err := st.prepare(g.o.RunDir, g.o.LogDir); err != nil {
		t.Fatal(err)
	}
	tree := manySites(t, g, 60, secured(t))
	if err := st.stage(tree); err != nil {
		t.Fatal(err)
	}
	faults := func(env []string) (n int64) {
		cmd := exec.Command(g.o.Binary, "-c", st.staged()+"/"+nginx.MainFile, "-p", st.dir, "-e", "stderr", "-g", "daemon off;")
		cmd.Env = env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Signal(syscall.SIGTERM)
		var seen []int
		newcomers := func() (all []int) {
			eventually(t, "new workers", func() bool {
				active, _ := newChild(g.o).workers(cmd.Process.Pid)
				_, all = split(active, func(pid int) bool { return slices.Contains(seen, pid) })
				return len(all) == g.settings.WorkerProcesses
			})
			seen = append(seen, all...)
			return all
		}
		newcomers()
		for range 3 {
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			n = 0
			for _, pid := range newcomers() {
				n += minorFaults(t, pid)
			}
			eventually(t, "the end of the old workers", func() bool { return len(children(cmd.Process.Pid)) == g.settings.WorkerProcesses })
		}
		return n
	}
	careless := slices.DeleteFunc(environment(), func(v string) bool { return strings.HasPrefix(v, "GLIBC_TUNABLES=") })
	few, many := faults(environment()), faults(careless)
	t.Logf("page faults of new workers: %d, and %d where pieces stay as they were freed", few, many)
	if few > many*4/5 {
		t.Errorf("new workers took %d page faults, and %d where pieces stay as they were freed; want four fifths at most", few, many)
	}
}

// minorFaults reads how many pages a process has fetched (proc_pid_stat(5), minflt).
func minorFaults(t *testing.T, pid int) (n int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if n, err = strconv.ParseInt(strings.Fields(rest)[7], 10, 64); err != nil {
		t.Fatal(err)
	}
	return n
}
