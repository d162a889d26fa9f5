package sockdiag

import (
	"errors"
	"net"
	"net/netip"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// PeerUser returns the user whose process has the other end of a connection within the
// network of this process. ok is false where there is none: the other end has not been
// accepted yet, or is closed already. The kernel says user 0 of both, and no inode.
//
// The kernel is asked for that one socket. Only where it does not answer the question, its table of
// all sockets is read, which takes much longer.
func PeerUser(local, remote netip.AddrPort) (uid uint64, ok bool) {
	switch s, err := find(remote, local); {
	case errors.Is(err, unix.ENOENT), err == nil && (!s.Established || s.Inode == 0):
		return 0, false
	case err != nil:
		return listedUser(local, remote)
	default:
		return uint64(s.UID), true
	}
}

// listedUser is PeerUser by the table of all sockets.
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
