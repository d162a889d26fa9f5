package identity

import (
	"regexp"
	"slices"
	"strings"
)

var (
	longID  = regexp.MustCompile(`[0-9a-f]{64}`)
	shortID = regexp.MustCompile(`^[0-9a-f]{12}$`)
)

// ContainerIDs returns the ids that the container of a process may have, the best
// guess first; none where nothing points to a container. It takes the texts of
// /proc/self/cgroup and /proc/self/mountinfo (cgroups(7), proc_pid_mountinfo(5)) and
// the host name. The engine of that container may cut or hide each of them, and the
// last is a short id: only its list has the right one.
//
// With cgroups of version 1, and in the host's cgroup namespace, the cgroup is named
// by the id; otherwise there are the files that Docker and Podman mount from a
// directory so named. Where a container shares another's network these are the
// other's.
func ContainerIDs(cgroup, mountinfo, hostname string) []string {
	var ids []string
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for line := range strings.Lines(cgroup) {
		all := longID.FindAllString(line, -1)
		if len(all) > 0 {
			add(all[len(all)-1]) // the innermost of containers in containers
		}
	}
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 || !slices.Contains([]string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}, f[4]) {
			continue // the host's processes see what is mounted for containers too, elsewhere
		}
		add(longID.FindString(f[3]))
	}
	if shortID.MatchString(hostname) {
		add(hostname)
	}
	return ids
}
