// Package vpc is a pretend VPC with real packets: every host is a network
// namespace of its own, a gateway between them leads public addresses to private
// ones, and clients sit outside. The gateway does for an Elastic IP what the
// internet gateway does: it is not an address of the host, but is translated, one
// to one; moving it is one step; and a connection that is open stays where it is
// ("Any open connections to an instance continue to work for a time even after you
// disassociate its Elastic IP address and reassociate it with another instance",
// EC2 User Guide, "Elastic IP addresses").
//
// It needs root, iproute2 and iptables, and leaves nothing behind: the namespaces
// have no names, and end with the process.
package vpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// gateway is the next hop of everybody.
	gateway = "169.254.1.1"
	// ServiceAddr is where the services of AWS listen: the address of instance
	// metadata.
	ServiceAddr = "169.254.169.254"
	// clientAddr is a host on the internet.
	clientAddr = "198.18.0.1"
)

// VPC is the network. Its methods may be called from any goroutine.
type VPC struct {
	gate, outside *Namespace

	mu    sync.Mutex
	links int
	hosts []*Host
}

// Host is the network of one pretend instance. Its methods may be called from any
// goroutine.
type Host struct {
	*Namespace
	// Private are its private addresses, the primary one first.
	Private []netip.Addr
}

// New makes a network with a gateway and a place for clients.
func New() (*VPC, error) {
	v := &VPC{}
	var err error
	if v.gate, err = newNamespace(); err != nil {
		return nil, err
	}
	err = v.gate.ip("addr add "+ServiceAddr+"/32 dev lo", "route add blackhole default")
	if err == nil {
		err = v.gate.Do(func() error {
			if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
				if have, rerr := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); rerr != nil || strings.TrimSpace(string(have)) != "1" {
					return err
				}
			}
			_, err := run("*nat\n:PUBLIC - [0:0]\n-A PREROUTING -j PUBLIC\nCOMMIT\n", "iptables-restore", "--noflush")
			return err
		})
	}
	if err == nil {
		v.outside, err = newNamespace()
	}
	if err == nil {
		err = v.join(v.outside, netip.MustParseAddr(clientAddr))
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// AddHost makes a host with these private addresses.
func (v *VPC) AddHost(private ...netip.Addr) (*Host, error) {
	n, err := newNamespace()
	if err != nil {
		return nil, err
	}
	return v.add(n, private)
}

// Adopt makes a host of a network namespace that is there already, e.g. that of a
// container without a network: the file is /proc/PID/ns/net of a process in it.
func (v *VPC) Adopt(file string, private ...netip.Addr) (*Host, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return v.add(&Namespace{f}, private)
}

func (v *VPC) add(n *Namespace, private []netip.Addr) (*Host, error) {
	if err := v.join(n, private...); err != nil {
		return nil, errors.Join(err, n.f.Close())
	}
	h := &Host{Namespace: n, Private: private}
	v.mu.Lock()
	v.hosts = append(v.hosts, h)
	v.mu.Unlock()
	return h, nil
}

// join connects a namespace with the gateway, point to point: what goes from one
// host to another passes the gateway too.
func (v *VPC) join(n *Namespace, addrs ...netip.Addr) error {
	v.mu.Lock()
	v.links++
	far := fmt.Sprintf("to%d", v.links)
	v.mu.Unlock()
	err := n.ip("link add eth0 type veth peer name "+far+" netns "+v.gate.path(), "link set eth0 up")
	for _, a := range addrs {
		if err == nil {
			err = n.ip("addr add " + a.String() + "/32 dev eth0")
		}
	}
	if err == nil {
		err = v.gate.ip("addr add "+gateway+"/32 dev "+far, "link set "+far+" up")
	}
	if err == nil {
		err = n.ip("route add default via " + gateway + " dev eth0 onlink src " + addrs[0].String())
	}
	for _, a := range addrs {
		if err == nil {
			err = v.gate.ip("route add " + a.String() + "/32 dev " + far)
		}
	}
	return err
}

// Lead lets each public address lead to the private one that it is a key of, all
// at once, and those that were led anywhere before and are not named nowhere.
func (v *VPC) Lead(public map[netip.Addr]netip.Addr) error {
	var b strings.Builder
	b.WriteString("*nat\n:PUBLIC - [0:0]\n")
	for from, to := range public {
		fmt.Fprintf(&b, "-A PUBLIC -d %s/32 -j DNAT --to-destination %s\n", from, to)
	}
	b.WriteString("COMMIT\n")
	return v.gate.Do(func() error {
		_, err := run(b.String(), "iptables-restore", "--noflush")
		return err
	})
}

// Listen listens where the services of AWS are, for the hosts to reach.
func (v *VPC) Listen(network, addr string) (l net.Listener, err error) {
	err = v.gate.Do(func() error {
		l, err = net.Listen(network, addr)
		return err
	})
	return l, err
}

// Dial connects a client on the internet with an IPv4 address and port.
func (v *VPC) Dial(ctx context.Context, _, addr string) (c net.Conn, err error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	err = v.outside.Do(func() error {
		// An address, not a name, and one family: so it is dialled by this goroutine.
		c, err = (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp4", at.String())
		return err
	})
	return c, err
}

// dialTimeout is how long a client waits for a host that does not answer.
const dialTimeout = 3 * time.Second

// Unplug takes the host off the network, as a power failure does; Plug puts it on
// again.
func (h *Host) Unplug() error { return h.ip("link set eth0 down") }

// Plug is the opposite of Unplug.
func (h *Host) Plug() error {
	return h.ip("link set eth0 up", "route replace default via "+gateway+" dev eth0 onlink src "+h.Private[0].String())
}

// Remove takes the host off the network for good, so that another one may have its
// addresses.
func (v *VPC) Remove(h *Host) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hosts = slices.DeleteFunc(v.hosts, func(o *Host) bool { return o == h })
	return errors.Join(h.ip("link delete eth0"), h.f.Close())
}

// Bridge connects the host with a bridge of the machine that it runs on, e.g. one
// of Docker's, and gives it that address there.
func (h *Host) Bridge(name string, addr netip.Prefix) error {
	near := fmt.Sprintf("veth%07x", rand.N(1<<28))
	if err := ip("link add " + near + " type veth peer name tasks0 netns " + h.path()); err != nil {
		return err
	}
	if err := ip("link set "+near+" master "+name, "link set "+near+" up"); err != nil {
		return errors.Join(err, ip("link delete "+near))
	}
	return h.ip("addr add "+addr.String()+" dev tasks0", "link set tasks0 up")
}

// Close lets go of the namespaces, which end when nothing runs in them any more.
func (v *VPC) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, h := range v.hosts {
		errs = append(errs, h.f.Close())
	}
	for _, n := range []*Namespace{v.outside, v.gate} {
		if n != nil {
			errs = append(errs, n.f.Close())
		}
	}
	return errors.Join(errs...)
}
