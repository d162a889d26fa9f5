package vpc_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

var (
	eip  = netip.MustParseAddr("203.0.113.10")
	addr = []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.20"), netip.MustParseAddr("10.0.0.21")}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newVPC makes a network. Without root there is none to be had.
func newVPC(t *testing.T) *vpc.VPC {
	t.Helper()
	v, err := vpc.New()
	testenv.Need(t, err)
	t.Cleanup(func() { must(t, v.Close()) })
	return v
}

// serve answers every line on port 80 of a host with its name.
func serve(t *testing.T, h *vpc.Host, name string) {
	t.Helper()
	must(t, h.Do(func() error {
		l, err := net.Listen("tcp4", ":80")
		if err != nil {
			return err
		}
		testenv.AcceptFrom(t, l, func(c net.Conn) {
			for lines := bufio.NewScanner(c); lines.Scan(); {
				fmt.Fprintf(c, "%s\n", name)
			}
		})
		return nil
	}))
}

// ask sends a line and returns the answer.
func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := io.WriteString(c, "who\n")
	must(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	must(t, err)
	return line[:len(line)-1]
}

func TestPublicAddressMoves(t *testing.T) {
	v := newVPC(t)
	a, err := v.AddHost(addr[0])
	must(t, err)
	b, err := v.AddHost(addr[1], addr[2])
	must(t, err)
	serve(t, a, "a")
	serve(t, b, "b")
	fresh := func() string {
		c, err := v.Dial(t.Context(), "tcp", eip.String()+":80")
		must(t, err)
		defer c.Close()
		return ask(t, c)
	}

	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := v.Dial(short, "tcp", eip.String()+":80"); err == nil {
		c.Close()
		t.Error("an address that leads nowhere answers")
	}
	must(t, v.Lead(map[netip.Addr]netip.Addr{eip: addr[0]}))
	open, err := v.Dial(t.Context(), "tcp", eip.String()+":80")
	must(t, err)
	defer open.Close()
	if got := ask(t, open); got != "a" {
		t.Errorf("%q answers, want a", got)
	}
	must(t, v.Lead(map[netip.Addr]netip.Addr{eip: addr[2]}))
	if got := fresh(); got != "b" {
		t.Errorf("a new connection after the move: %q answers, want b", got)
	}
	if got := ask(t, open); got != "a" {
		t.Errorf("the open connection after the move: %q answers, want a", got)
	}

	// From one host to the public address of another.
	must(t, a.Do(func() error {
		c, err := net.DialTimeout("tcp4", eip.String()+":80", 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if got := ask(t, c); got != "b" {
			t.Errorf("from the other host: %q answers, want b", got)
		}
		return nil
	}))

	must(t, b.Unplug())
	short, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c, err := v.Dial(short, "tcp", eip.String()+":80"); err == nil {
		c.Close()
		t.Error("a host without power answers")
	}
	must(t, b.Plug())
	if got := fresh(); got != "b" {
		t.Errorf("plugged in again: %q answers, want b", got)
	}
}

func TestServicesListenForTheHosts(t *testing.T) {
	v := newVPC(t)
	h, err := v.AddHost(addr[0])
	must(t, err)
	l, err := v.Listen("tcp", vpc.ServiceAddr+":0")
	must(t, err)
	defer l.Close()
	from := make(chan string, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			c.Close()
		}
	}()
	must(t, h.Do(func() error {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}))
	if got := <-from; got != addr[0].String() {
		t.Errorf("the service sees %s, want %s", got, addr[0])
	}
}
