package install

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// portTrouble reads which port is taken from nginx's message and names who has
// it in that directory's network; nil if the message is about something else.
func portTrouble(net, text string) *trouble {
	m := bindInUse.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	port, err := strconv.ParseUint(m[2], 10, 16)
	if err != nil {
		return nil
	}
	l := nginx.Listen{Port: uint16(port)}
	if udp := (nginx.Listen{Port: l.Port, UDP: true}); !held(net, l) && held(net, udp) {
		l = udp // the message does not tell
	}
	return portInUse(l, portHolders(net, l))
}

// portInUse names the first of the processes that hold a port; there is none
// when we may not look into it.
func portInUse(l nginx.Listen, pids []int) *trouble {
	kind := "TCP"
	if l.UDP {
		kind = "UDP"
	}
	who := "another process"
	if len(pids) > 0 {
		who = fmt.Sprintf("process %d %q", pids[0], bounded(title(pids[0])))
	}
	return &trouble{
		code: "port-in-use", subject: fmt.Sprintf("port %d", l.Port), port: l.Port,
		text: fmt.Sprintf("%s port %d is held by %s, so nginx cannot listen on it", kind, l.Port, who),
		hint: "stop or move that process (for a distribution's own web server: systemctl disable --now nginx, or apache2, httpd), or choose another port; it is tried again",
	}
}

// blocked returns the sites of a tree that ask for a port which somebody else
// holds, each with what is in its way. A master that cannot bind one port refuses
// everything, and nginx -t does not mind. The file of a port that sites share stands
// for them all; without that of HTTP/3 they are served over TCP.
func (r *runner) blocked(tree nginx.Tree) map[string]*trouble {
	sites := map[string]*trouble{}
	net := r.way.net()
	for _, l := range tree.Listens() {
		if l.Site == "" || sites[l.Site] != nil || !held(net, l) {
			continue
		}
		if pids := portHolders(net, l); !slices.ContainsFunc(pids, r.way.isMaster) {
			sites[l.Site] = portInUse(l, pids)
		}
	}
	return sites
}

// unblocked puts such sites into quarantine and returns the tree without them.
func (r *runner) unblocked(tree nginx.Tree) nginx.Tree {
	for host, why := range r.blocked(tree) {
		site, _ := tree.Site(host)
		r.remember([]refused{{site: site, reason: why.text}})
		tree = tree.Without(host)
	}
	return tree
}

// portHolders returns who listens on a port in the network of a /proc/PID/net.
func portHolders(net string, l nginx.Listen) []int { return inodeHolders(listeners(net, l)) }

// held reports whether anybody listens on a port there.
func held(net string, l nginx.Listen) bool { return len(listeners(net, l)) > 0 }

// listeners returns the inodes of the listening sockets of a port, from the
// tables described in proc_pid_net(5), which are empty where there is no net: the local address is the second field
// in hexadecimal, the state the fourth (0A is LISTEN; of UDP 07 is a socket that
// takes from everybody), the inode the tenth.
func listeners(net string, l nginx.Listen) map[string]bool {
	inodes := map[string]bool{}
	tables, state := []string{"tcp", "tcp6"}, "0A"
	if l.UDP {
		tables, state = []string{"udp", "udp6"}, "07"
	}
	for _, table := range tables {
		eachLine(filepath.Join(net, table), func(fields []string) {
			if len(fields) < 10 || fields[3] != state {
				return
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == l.Port {
				inodes[fields[9]] = true
			}
		})
	}
	return inodes
}

// socketHolders returns the processes that have a unix socket of this path open.
func socketHolders(path string) []int {
	inodes := map[string]bool{}
	eachLine("/proc/self/net/unix", func(fields []string) {
		if len(fields) >= 8 && strings.Join(fields[7:], " ") == path {
			inodes[fields[6]] = true
		}
	})
	return inodeHolders(inodes)
}

func eachLine(path string, f func(fields []string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f(strings.Fields(lines.Text()))
	}
}

// inodeHolders returns the processes that have one of these sockets open, as
// far as we may look into them, in ascending order.
func inodeHolders(inodes map[string]bool) []int {
	if len(inodes) == 0 {
		return nil
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, dir := range names {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && holdsSocket(filepath.Join(dir, "fd"), inodes) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func holdsSocket(fds string, inodes map[string]bool) bool {
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(fds, e.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}
