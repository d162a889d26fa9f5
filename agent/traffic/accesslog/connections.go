package accesslog

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// established is a state of a TCP socket (include/net/tcp_states.h).
const established = 1

// connections adds to each of some addresses how many TCP connections of this network lead there: an open one for each
// client takes no memory. The kernel is asked by sock_diag(7), which takes no privilege, and knows those of an nginx in
// the network of this process.
func connections(to map[netip.AddrPort]int, buf []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := unix.Sendto(fd, everyOne(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		for more := true; more; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return err
			}
			if more, err = add(to, buf[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// everyOne is the request for all sockets of a family: a header of netlink, and inet_diag_req_v2.
func everyOne(family byte) []byte {
	const size = unix.SizeofNlMsghdr + 8 + 48
	host := binary.NativeEndian
	b := host.AppendUint32(make([]byte, 0, size), size)
	b = host.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = host.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = append(b, make([]byte, 8)...) // sequence and port
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = host.AppendUint32(b, 1<<established)
	return append(b, make([]byte, 48)...) // any addresses and ports
}

// add counts those of the sockets of an answer that lead to an address that is there. more is false after the last one.
func add(to map[netip.AddrPort]int, answer []byte) (more bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		switch b := m.Data; {
		case m.Header.Type == unix.NLMSG_DONE:
			return false, nil
		case m.Header.Type == unix.NLMSG_ERROR && len(b) >= 4:
			return false, unix.Errno(-int32(binary.NativeEndian.Uint32(b)))
		case m.Header.Type == unix.SOCK_DIAG_BY_FAMILY && len(b) >= 40: // inet_diag_msg, up to idiag_dst
			addr := netip.AddrFrom16([16]byte(b[24:40]))
			if b[0] == unix.AF_INET {
				addr = netip.AddrFrom4([4]byte(b[24:28]))
			}
			at := netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[6:8]))
			if n, asked := to[at]; asked {
				to[at] = n + 1
			}
		}
	}
	return true, nil
}
