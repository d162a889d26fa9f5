package systemd

import (
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are those that a .socket unit opened for this process. systemd keeps its own
// copy of each: while this process is away, or listens on none of them, clients
// that connect wait.
type Sockets []*os.File

// InheritedSockets takes the sockets that systemd passed on (sd_listen_fds(3)), and
// removes them from the environment. There are none where systemd passed none.
func InheritedSockets() Sockets { return activation.Files(true) }

// At returns a listener on the inherited unix socket of that path, or nil if there is
// none. Closing it ends neither the socket nor what At returns next.
func (s Sockets) At(path string) net.Listener {
	for _, f := range s {
		l, err := net.FileListener(f)
		if err != nil {
			continue // not a socket that listens
		}
		if a := l.Addr(); a.Network() == "unix" && a.String() == path {
			return l
		}
		l.Close()
	}
	return nil
}
