package discover

import (
	"os"

	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// OwnContainer returns the ids that the container of this process may have; none on the
// host itself.
func OwnContainer() []string {
	read := func(name string) string {
		b, _ := os.ReadFile(name) // without it there are fewer guesses
		return string(b)
	}
	name, _ := os.Hostname()
	return identity.ContainerIDs(read("/proc/self/cgroup"), read("/proc/self/mountinfo"), name)
}
