package proc

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
)

// States of a socket in /proc/PID/net/tcp and udp (include/net/tcp_states.h). That of a UDP
// socket which takes packets from everybody is "closed".
const (
	tcpListen = 0x0A
	udpOpen   = 0x07
)

// Own is the network of this process, for Listeners.
const Own = "/proc/self/net"

// Socket is a socket by its inode, and the user that has made it.
type Socket struct {
	Inode uint64
	UID   int
}

// Listeners returns the sockets that listen on a port in a network: a
// directory /proc/PID/net of any process in it. An empty one has none.
func Listeners(network string, port uint16, udp bool) []Socket {
	if network == "" {
		return nil
	}
	fs, err := procfs.NewFS(filepath.Dir(network))
	if err != nil {
		return nil
	}
	if udp {
		return sockets(port, udpOpen, fs.NetUDP, fs.NetUDP6)
	}
	//lint:ignore SA1019 netlink asks the kernel the same with a module more, and not about another process's network
	return sockets(port, tcpListen, fs.NetTCP, fs.NetTCP6)
}

// sockets are those of a port that have this state. A kernel without IPv6 has no table of it.
func sockets[T procfs.NetTCP | procfs.NetUDP](port uint16, state uint64, tables ...func() (T, error)) (all []Socket) {
	for _, table := range tables {
		listed, _ := table()
		for _, s := range procfs.NetIPSocket(listed) {
			if s.LocalPort == uint64(port) && s.St == state {
				all = append(all, Socket{s.Inode, int(s.UID)})
			}
		}
	}
	return all
}

// Addrs returns the addresses of this process's network.
func Addrs() (all []netip.Addr, err error) {
	nets, err := net.InterfaceAddrs()
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all, err
}

// Bound reports whether no other socket of this process's network can be bound to a port,
// though none may listen on it: a socket that is only bound has it, or a connection that was
// opened from it. What listens with SO_REUSEPORT is not looked at, nor what shares a UDP port
// by SO_REUSEADDR, as nginx does.
func Bound(port uint16, udp bool) bool {
	kind := syscall.SOCK_STREAM
	if udp {
		kind = syscall.SOCK_DGRAM
	}
	for family, addr := range map[int]syscall.Sockaddr{
		syscall.AF_INET: &syscall.SockaddrInet4{Port: int(port)}, syscall.AF_INET6: &syscall.SockaddrInet6{Port: int(port)},
	} {
		fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			continue // this kernel has no IPv6
		}
		// As nginx binds (ngx_open_listening_sockets).
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		if family == syscall.AF_INET6 {
			_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
		}
		err = syscall.Bind(fd, addr)
		_ = syscall.Close(fd)
		if err == syscall.EADDRINUSE {
			return true
		}
	}
	return false
}

// UnixSockets returns the inodes of the unix sockets of this path in the network of this
// process. procfs cuts a path at its first space.
func UnixSockets(path string) []uint64 {
	table, _ := os.ReadFile(filepath.Join(Own, "unix"))
	var inodes []uint64
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 7 && strings.Join(f[7:], " ") == path {
			inode, _ := strconv.ParseUint(f[6], 10, 64) // 0 is nobody's
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// Inodes are those of sockets.
func Inodes(sockets []Socket) (inodes []uint64) {
	for _, s := range sockets {
		inodes = append(inodes, s.Inode)
	}
	return inodes
}

// Holders returns the processes that have one of these sockets open, as far as they can be
// looked into, in ascending order.
func Holders(inodes []uint64) []int {
	if len(inodes) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for _, inode := range inodes {
		wanted["socket:["+strconv.FormatUint(inode, 10)+"]"] = true
	}
	return numbers(func(p procfs.Proc) bool {
		open, _ := p.FileDescriptorTargets()
		return slices.ContainsFunc(open, func(to string) bool { return wanted[to] })
	})
}
