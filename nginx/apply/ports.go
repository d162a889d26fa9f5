package apply

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// lookEvery is the pause between two looks at the ports of a tree that is being loaded.
const lookEvery = 100 * time.Millisecond

// listener is what listens on a port.
type listener struct {
	// held is true if nginx could not bind the port; pids are the processes that hold it, as
	// far as they can be seen, and uids the users that have made the sockets.
	held bool
	pids []int
	uids []int
}

// listening returns what listens on a port in the network of a /proc/PID/net. Where that is the
// network of this process, a connection from that port, a socket that is only bound and one of
// UDP that has a peer hold it too.
func listening(net string, l nginx.Listen) (found listener) {
	sockets := proc.Listeners(net, l.Port, l.UDP)
	for _, s := range sockets {
		found.uids = append(found.uids, s.UID)
	}
	found.pids = proc.Holders(proc.Inodes(sockets))
	found.held = len(sockets) > 0 || net == proc.Own && proc.Bound(l.Port, l.UDP)
	return found
}

// heldByOthers reports whether others than our nginx hold the port. Which process does
// cannot be seen of another user's: then a socket of nginx's user, its account, is nginx's. That
// is nil where nginx cannot have the port: a container may have the number of nginx's user.
func (l listener) heldByOthers(master int, account *nginx.Account) bool {
	if len(l.pids) > 0 || account == nil || len(l.uids) == 0 {
		return l.held && !slices.Contains(l.pids, master)
	}
	return slices.ContainsFunc(l.uids, func(uid int) bool { return uid != account.UID })
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
// all sockets, and one that is held a look at all processes: milliseconds, once for
// all sites that ask for it. onlyNew is true where nginx has none of them.
func (a *applier) inUse(listens []nginx.Listen, onlyNew bool) map[string]*nginx.Fault {
	faults, ports := map[string]*nginx.Fault{}, map[nginx.Listen]*nginx.Fault{}
	for _, l := range listens {
		port := nginx.Listen{Port: l.Port, UDP: l.UDP}
		f, known := ports[port]
		if !known {
			account := a.master.account
			if onlyNew && !l.UDP { // a worker that drains may still have a port of HTTP/3
				account = nil
			}
			if found := listening(a.master.net, l); found.heldByOthers(a.master.pid, account) {
				f = portInUse(l, found.pids)
			}
			ports[port] = f
		}
		if f != nil && faults[l.Site] == nil {
			faults[l.Site] = f
		}
	}
	return faults
}

// blocked returns the faults of the sites of a tree that ask for a port which another process
// holds, or whose family had nginx bind one in vain, by host. nginx -t does not find them. Left
// out are the ports of the main file, which every pass would look at, and those that nginx has
// by now. loading is true while nginx loads the tree.
func (a *applier) blocked(tree nginx.Tree, loading bool) map[string]*nginx.Fault {
	has := map[nginx.Listen]bool{}
	if a.master.pid != 0 {
		for _, l := range a.live.Listens() {
			has[nginx.Listen{Port: l.Port, UDP: l.UDP}] = true
		}
	}
	listens := slices.DeleteFunc(tree.Listens(), func(l nginx.Listen) bool {
		return l.Site == "" || has[nginx.Listen{Port: l.Port, UDP: l.UDP}]
	})
	faults := a.inUse(listens, a.known() && !a.stale && !a.master.unconfirmed && !loading)
	for _, l := range listens {
		site, _ := tree.Site(l.Site)
		if v, ok := a.quarantine.inVain[site.Owner()]; ok {
			faults[l.Site] = v.fault
		}
	}
	return faults
}

// takenMeanwhile returns the fault of a port that another process has taken since it was looked
// at, while nginx tries to bind it. That takes nginx seconds in which it loads nothing, so
// all that is new among the ports of that family is left out for a while.
func (a *applier) takenMeanwhile(l *loading) error {
	if l.tree == nil || time.Since(l.looked) < lookEvery {
		return nil
	}
	l.looked = time.Now()
	for host, f := range a.blocked(*l.tree, true) {
		return a.boundInVain(*l.tree, host, f)
	}
	return nil
}

// namedPort is takenMeanwhile where no other process is seen: by the port that nginx's message
// names, after it has not loaded the tree.
func (a *applier) namedPort(l *loading, message string) error {
	port := nginx.UnboundPort(message)
	for _, listen := range l.tree.Listens() {
		if listen.Site != "" && listen.Port == port {
			return a.boundInVain(*l.tree, listen.Site, portInUse(listen, nil))
		}
	}
	return nil
}

// boundInVain notes that nginx could not bind a port of a site.
func (a *applier) boundInVain(tree nginx.Tree, host string, f *nginx.Fault) error {
	site, _ := tree.Site(host)
	a.quarantine.inVain[site.Owner()] = boundInVain{f, time.Now().Add(a.o.Limits.RetryQuarantine)}
	f.Retry = time.Millisecond // without that family's new ports
	return f
}

// lookForShared notes the UDP ports of nginx that another user's socket has as well. Linux lets
// any user's socket with SO_REUSEADDR share one of nginx's, and gives it datagrams.
func (a *applier) lookForShared() {
	var all []problem.Problem
	for _, l := range a.live.Listens() {
		if !l.UDP || a.master.pid == 0 || a.master.account == nil {
			continue
		}
		other := slices.IndexFunc(listening(a.master.net, l).uids, func(uid int) bool { return uid != a.master.account.UID })
		p := problem.Of(fmt.Sprintf("port %d", l.Port), "port-shared",
			fmt.Sprintf("ss -lunp sport = :%d shows it: stop it; where users of this host are not trusted, choose a port below 1024", l.Port),
			"another user's process listens on UDP port %d beside nginx, and can take what clients send", l.Port)
		if other >= 0 && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if !slices.Equal(all, a.report.shared) {
		a.report.shared = all
		a.publish()
	}
}

// portFault returns the fault of the first port of a tree that another process holds,
// nil if there is none.
func (a *applier) portFault(tree nginx.Tree) error {
	for _, l := range tree.Listens() {
		if f := a.inUse([]nginx.Listen{l}, false)[l.Site]; f != nil {
			return f
		}
	}
	return nil
}
