package vpc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace without a name. The kernel takes it away, with
// its links, rules and routes, when it is closed and the last process and socket
// in it have ended; nothing can be left behind.
type Namespace struct {
	f *os.File
}

// newNamespace makes a namespace with nothing in it but a loopback that is up.
func newNamespace() (*Namespace, error) {
	type made struct {
		f   *os.File
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: fmt.Errorf("making a network namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		result <- made{f, err}
	}()
	m := <-result
	if m.err != nil {
		return nil, m.err
	}
	n := &Namespace{f: m.f}
	if err := n.ip("link set lo up"); err != nil {
		return nil, errors.Join(err, n.f.Close())
	}
	return n, nil
}

// Do runs f in the namespace: what it listens on, dials or starts as a process
// belongs there ever after. f may not start goroutines for that.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread does not come back
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// path is where another process finds the namespace.
func (n *Namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.f.Fd()) }

// ip runs the program ip in the namespace, once for each command.
func (n *Namespace) ip(commands ...string) error {
	return n.Do(func() error { return ip(commands...) })
}

// ip runs the program ip, once for each command.
func ip(commands ...string) error {
	for _, c := range commands {
		if _, err := run("", "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program to its end, and returns its output.
func run(input, name string, args ...string) (string, error) {
	cmd := exec.Command(program(name), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// program finds what lies where only root's PATH leads.
func program(name string) string {
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
