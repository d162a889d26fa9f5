package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// An inherited socket can be listened on again and again, and whoever connects in
// between waits.
func TestInheritedSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	sockets := Sockets{other, file}
	if l := sockets.At(path + "2"); l != nil {
		t.Errorf("another path gives %v", l.Addr())
	}
	for range 2 {
		asker, err := net.DialTimeout("unix", path, 10*time.Second)
		if err != nil {
			t.Fatalf("while nobody listens: %v", err)
		}
		front := sockets.At(path)
		if front == nil {
			t.Fatal("no listener")
		}
		conn, err := front.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		front.Close()
		asker.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestNoInheritedSockets(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()+1)) // somebody else's
	t.Setenv("LISTEN_FDS", "1")
	if s := InheritedSockets(); len(s) != 0 {
		t.Errorf("%v", s)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("children inherit the environment")
	}
}
