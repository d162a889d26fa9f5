package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// The kernel says the same of one socket as its table of all of them, in each state of the
// other end.
func TestTheKernelIsAskedForOneSocket(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "127.0.0.9:0", "[::1]:0", ":0"} {
		l, err := net.Listen("tcp", at)
		testenv.Need(t, err)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		to := l.Addr().String()
		if at == ":0" { // a socket of IPv6 for both families
			to = "127.0.0.1:" + port
		}
		c, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		local, remote := ends(c)
		expect := func(when string, want bool) {
			t.Helper()
			uid, ok := PeerUser(local, remote)
			listed, found := listedUser(local, remote)
			if ok != want || ok != found || uid != listed {
				t.Errorf("%s, %s: user %d, %v; the table has %d, %v; want %v", at, when, uid, ok, listed, found, want)
			}
		}
		if _, err = find(remote, local); err != nil {
			t.Fatalf("%s: the kernel answers %v", at, err)
		}
		expect("not accepted", false)
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		expect("accepted", true)
		peer.Close()
		expect("closed", false)
		l.Close()
		c.Close()
		if s, err := find(remote, local); err == nil && s.Inode != 0 || err != nil && !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s, without a listener: %+v, %v", at, s, err)
		}
	}
}

// BenchmarkPeerUser has both ways to learn who answers.
func BenchmarkPeerUser(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer peer.Close()
	local, remote := ends(c)
	b.Run("asked", func(b *testing.B) {
		for b.Loop() {
			PeerUser(local, remote)
		}
	})
	b.Run("listed", func(b *testing.B) {
		for b.Loop() {
			listedUser(local, remote)
		}
	})
}

// ends are both ends of a connection.
func ends(c net.Conn) (local, remote netip.AddrPort) {
	at := func(a net.Addr) netip.AddrPort {
		p := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return at(c.LocalAddr()), at(c.RemoteAddr())
}
