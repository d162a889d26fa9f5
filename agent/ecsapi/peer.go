package ecsapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// established is a state of a TCP socket (include/net/tcp_states.h).
const established = 1

// peerUser returns the user whose process has the other end of a connection within the
// network of this process. ok is false where there is none: the other end has not been
// accepted yet, or is closed already. The kernel says user 0 of both, and no inode.
//
// The kernel is asked for that one socket. To read its table of all sockets as text takes a
// walk through a hash table that grows with the memory of the machine: 4.6 ms with 24 GiB, in
// the place of 9 µs. Only where a kernel does not answer the question, the table is read.
func peerUser(local, remote netip.AddrPort) (uid uint64, ok bool) {
	s, err := diagnose(remote, local)
	if errors.Is(err, unix.ENOENT) {
		return 0, false
	}
	if err != nil {
		return listedUser(local, remote)
	}
	if s.state != established || s.inode == 0 {
		return 0, false
	}
	return uint64(s.uid), true
}

// socket is what the kernel says of a socket.
type socket struct {
	state      byte
	uid, inode uint32
}

// Sizes and places of sock_diag(7): a header of netlink, inet_diag_req_v2 behind it, and what
// is read of inet_diag_msg.
const (
	requestSize = unix.SizeofNlMsghdr + 8 + 48
	messageSize = 4 + 48 + 5*4
	uidAt       = messageSize - 8
	inodeAt     = messageSize - 4
)

// diagnose asks the kernel for the TCP socket with these two ends. It returns an error that is
// ENOENT if there is none; a listener at near is in the place of a connection that has ended.
func diagnose(near, far netip.AddrPort) (s socket, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return s, err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return s, err
	}
	if err := unix.Sendto(fd, question(near, far), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return s, err
	}
	var answer [512]byte
	n, _, err := unix.Recvfrom(fd, answer[:], 0)
	if err != nil {
		return s, err
	}
	host, body := binary.NativeEndian, answer[:n]
	if n < unix.SizeofNlMsghdr+4 {
		return s, fmt.Errorf("an answer of %d bytes", n)
	}
	kind, body := host.Uint16(body[4:]), body[unix.SizeofNlMsghdr:]
	switch {
	case kind == unix.NLMSG_ERROR:
		return s, unix.Errno(-int32(host.Uint32(body)))
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < messageSize:
		return s, fmt.Errorf("an answer of kind %d and %d bytes", kind, len(body))
	}
	return socket{state: body[1], uid: host.Uint32(body[uidAt:]), inode: host.Uint32(body[inodeAt:])}, nil
}

// question is the request for one socket.
func question(near, far netip.AddrPort) []byte {
	family, host := byte(unix.AF_INET), binary.NativeEndian
	if near.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 0, requestSize)
	b = host.AppendUint32(b, requestSize)
	b = host.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = host.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence and port
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = host.AppendUint32(b, 1<<established)
	b = binary.BigEndian.AppendUint16(b, near.Port())
	b = binary.BigEndian.AppendUint16(b, far.Port())
	for _, end := range []netip.AddrPort{near, far} {
		var addr [16]byte
		copy(addr[:], end.Addr().AsSlice())
		b = append(b, addr[:]...)
	}
	b = host.AppendUint32(b, 0)             // any interface
	return host.AppendUint64(b, ^uint64(0)) // INET_DIAG_NOCOOKIE
}

// listedUser is peerUser by the table of all sockets.
func listedUser(local, remote netip.AddrPort) (uid uint64, ok bool) {
	fs, err := procfs.NewFS("/proc/self")
	if err != nil {
		return 0, false
	}
	//lint:ignore SA1019 netlink was asked before
	for _, table := range []func() (procfs.NetTCP, error){fs.NetTCP, fs.NetTCP6} {
		sockets, _ := table() // a kernel without IPv6 has no table of it
		for _, s := range sockets {
			if s.St == established && s.Inode != 0 && end(s.LocalAddr, s.LocalPort) == remote && end(s.RemAddr, s.RemPort) == local {
				return s.UID, true
			}
		}
	}
	return 0, false
}

// end is one end of a connection; a socket of IPv6 writes IPv4 in its own way.
func end(ip net.IP, port uint64) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}
