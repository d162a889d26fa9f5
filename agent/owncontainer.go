package agent

import (
	"net"
	"net/netip"
	"os"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// ownIDs returns the ids that the container of this process may have; none on the
// host itself.
func ownIDs() []string {
	read := func(name string) string {
		b, _ := os.ReadFile(name) // without it there are fewer guesses
		return string(b)
	}
	name, _ := os.Hostname()
	return identity.ContainerIDs(read("/proc/self/cgroup"), read("/proc/self/mountinfo"), name)
}

// interfaceAddrs are the addresses of this network namespace.
func interfaceAddrs() (all []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all, err
}

// ownUnknown says that this container is another engine's.
func ownUnknown(host string) problem.Problem {
	return problem.Problem{
		Code: "own-container-unknown", Severity: problem.Warning, Subject: "nginx",
		Text: "this agent seems to be in a container that the Docker Engine at " + host + " does not have, so the others are looked for where the host itself would reach them",
		Hint: "mount the socket of the engine that runs this container, or let it use the host's network (--network host)",
	}
}
