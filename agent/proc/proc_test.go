package proc

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60; true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, self := cmd.Process.Pid, os.Getpid()
	gone, stop := Watch(pid)
	defer stop()
	for deadline := time.Now().Add(20 * time.Second); Title(pid) != "sh -c sleep 60; true"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("title %q", Title(pid))
		}
	}
	if got := Parent(pid); got != self {
		t.Errorf("parent %d, want %d", got, self)
	}
	if got := Children(self); !slices.Contains(got, pid) {
		t.Errorf("children %v, want %d among them", got, pid)
	}
	if got := All(); !slices.Contains(got, pid) || !slices.Contains(got, self) || !slices.IsSorted(got) {
		t.Errorf("all processes: %v", got)
	}
	if exe, err := os.Executable(); err != nil || Executable(self) != exe {
		t.Errorf("executable %q, want %q", Executable(self), exe)
	}
	if uid, gid, ok := Account(pid); !ok || uid != os.Geteuid() || gid != os.Getegid() {
		t.Errorf("account %d, %d, %v", uid, gid, ok)
	}
	for deadline := time.Now().Add(20 * time.Second); CPUTime(self) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("this process has used no CPU time")
		}
	}
	select {
	case <-gone:
		t.Error("a process that runs has ended")
	default:
	}
	for ended := false; !ended; { // the shell may not have started its child yet
		for _, child := range Children(pid) {
			if p, err := os.FindProcess(child); err == nil {
				p.Kill()
			}
		}
		select {
		case <-gone:
			ended = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if Title(pid) != "" || Parent(pid) != 0 || Executable(pid) != "" || CPUTime(pid) != 0 {
		t.Error("a process that has ended is still there")
	}
	if _, _, ok := Account(pid); ok {
		t.Error("a process that has ended has an account")
	}
	cmd.Wait()
}

func TestPollExit(t *testing.T) {
	ended, quit := make(chan struct{}), make(chan struct{})
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pollExit(cmd.Process.Pid, ended, quit)
	<-ended
	close(quit)
	pollExit(os.Getpid(), ended, quit) // would close ended again
}

func TestSockets(t *testing.T) {
	self := os.Getpid()
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		tcp, err := net.Listen("tcp", host)
		if err != nil {
			if strings.HasPrefix(host, "[") {
				continue // this kernel has no IPv6
			}
			t.Fatal(err)
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		tcpPort := netip.MustParseAddrPort(tcp.Addr().String()).Port()
		udpPort := netip.MustParseAddrPort(udp.LocalAddr().String()).Port()
		for _, row := range []struct {
			port uint16
			udp  bool
		}{{tcpPort, false}, {udpPort, true}} {
			sockets := Listeners(Own, row.port, row.udp)
			inodes := Inodes(sockets)
			if len(inodes) != 1 || sockets[0].UID != os.Geteuid() || !slices.Equal(Holders(inodes), []int{self}) {
				t.Errorf("%s, %+v: inodes %v, held by %v", host, row, inodes, Holders(inodes))
			}
			if got := Listeners("", row.port, row.udp); got != nil {
				t.Errorf("in no network: %v", got)
			}
		}
		conn, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		local := netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
		if got := Listeners(Own, local, false); got != nil {
			t.Errorf("a connection listens: %v", got)
		}
		if !Bound(local, false) {
			t.Errorf("port %d, which a connection was opened from, can be bound", local)
		}
		// Nor is a socket of UDP that has a peer among those that are open to everybody.
		talk, err := net.Dial("udp", udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer talk.Close()
		local = netip.MustParseAddrPort(talk.LocalAddr().String()).Port()
		if !Bound(local, true) || Listeners(Own, local, true) != nil {
			t.Errorf("UDP port %d, which a socket with a peer has, can be bound", local)
		}
		talk.Close()
		if Bound(local, true) {
			t.Errorf("UDP port %d, which nothing has any more, cannot be bound", local)
		}
		conn.Close()
		tcp.Close()
		if Bound(tcpPort, false) {
			t.Errorf("port %d, which nothing listens on any more, cannot be bound", tcpPort)
		}
	}
	path := filepath.Join(t.TempDir(), "a b.sock")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	if got := Holders(UnixSockets(path)); !slices.Equal(got, []int{self}) {
		t.Errorf("%s is held by %v", path, got)
	}
	if got := Holders(UnixSockets(path + "x")); got != nil {
		t.Errorf("a socket that is not there is held by %v", got)
	}
}
