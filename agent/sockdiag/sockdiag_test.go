package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel names each connection that is open, and those that have ended no more.
func TestConnections(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", at)
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			t.Logf("this machine has no %s", at)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		where := l.Addr().(*net.TCPAddr).AddrPort()
		count := func(want int) {
			t.Helper()
			all := map[netip.AddrPort]int{}
			if err := Each(func(s Socket) { all[s.Remote]++ }); err != nil {
				t.Fatal(err)
			}
			if got := all[where]; got != want {
				t.Errorf("%d to %s, want %d", got, where, want)
			}
		}
		count(0)
		var all []net.Conn
		for range 600 { // more than there is room for in one answer
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			other, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			all = append(all, c)
		}
		count(600)
		for _, c := range all[1:] {
			if err := c.(*net.TCPConn).CloseWrite(); err != nil { // which the kernel has done when it returns
				t.Fatal(err)
			}
		}
		count(1)
	}
}

// An answer that is anything ends the question, or is passed over.
func FuzzAnswer(f *testing.F) {
	f.Add(request(unix.NLM_F_DUMP, netip.AddrPort{}, netip.AddrPort{}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if more, err := read(answer, func(Socket) {}); more && err != nil {
			t.Errorf("more %v, %v", more, err)
		}
	})
}

func BenchmarkEach(b *testing.B) {
	for b.Loop() {
		if err := Each(func(Socket) {}); err != nil {
			b.Fatal(err)
		}
	}
}
