package apply

import (
	"fmt"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// holders returns the processes that listen on a port in the network of a /proc/PID/net,
// as far as they can be seen; held is true if nginx could not bind it. Where nginx has the
// network of this process, a connection from that port or a socket that is only bound count too.
func holders(net string, l nginx.Listen) (pids []int, held bool) {
	inodes := proc.Listeners(net, l.Port, l.UDP)
	return proc.Holders(inodes), len(inodes) > 0 || net == proc.Own && !l.UDP && proc.Bound(l.Port)
}

// portInUse is the fault of a port that other processes hold. It names the first of them,
// if they can be seen.
func portInUse(l nginx.Listen, pids []int) *nginx.Fault {
	kind := "TCP"
	if l.UDP {
		kind = "UDP"
	}
	who := "another process or connection"
	if len(pids) > 0 {
		who = fmt.Sprintf("process %d %q", pids[0], nginx.Printable(proc.Title(pids[0])))
	}
	f := nginx.NewFault(errPortInUse, "port-in-use", fmt.Sprintf("%s port %d is held by %s, so nginx cannot listen on it", kind, l.Port, who),
		"stop or move that process (for a distribution's own web server: systemctl disable --now nginx, or apache2, httpd), or choose another port; it is tried again")
	f.Subject = fmt.Sprintf("port %d", l.Port)
	return f
}

// inUse returns the faults of the ports that other processes than the master hold, by the
// site that asks for them: "" is the main file. The file of a port that sites share stands
// for them all; without that of HTTP/3 they are served over TCP. Each port costs a look at
// all sockets, and one that is held a look at all processes: milliseconds.
func (a *applier) inUse(listens []nginx.Listen) map[string]*nginx.Fault {
	faults := map[string]*nginx.Fault{}
	for _, l := range listens {
		if faults[l.Site] != nil {
			continue
		}
		if pids, held := holders(a.master.net, l); held && !slices.Contains(pids, a.master.pid) {
			faults[l.Site] = portInUse(l, pids)
		}
	}
	return faults
}

// blocked returns the faults of the sites of a tree that ask for a port which another process
// holds, by host. nginx -t does not find them. The ports of the main file, which every pass
// would look at, are left out.
func (a *applier) blocked(tree nginx.Tree) map[string]*nginx.Fault {
	return a.inUse(slices.DeleteFunc(tree.Listens(), func(l nginx.Listen) bool { return l.Site == "" }))
}

// portFault returns the fault of the first port of a tree that another process holds,
// nil if there is none.
func (a *applier) portFault(tree nginx.Tree) error {
	for _, l := range tree.Listens() {
		if f := a.inUse([]nginx.Listen{l})[l.Site]; f != nil {
			return f
		}
	}
	return nil
}
