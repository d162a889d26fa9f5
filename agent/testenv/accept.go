package testenv

import (
	"net"
	"net/netip"
	"testing"
)

// Accept starts a server over TCP, until the test ends, and returns its address. attend serves one connection,
// each in a goroutine of its own; it is closed afterwards.
func Accept(t testing.TB, attend func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	AcceptFrom(t, l, attend)
	return netip.MustParseAddrPort(l.Addr().String())
}

// AcceptFrom is Accept for a listener that is there already; it is closed when the test ends.
func AcceptFrom(t testing.TB, l net.Listener, attend func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				attend(c)
			}()
		}
	}()
}
