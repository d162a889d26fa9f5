package identity

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestContainerIDs(t *testing.T) {
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	mounts := "512 480 0:61 / / rw,relatime - overlay overlay rw\n" +
		"530 512 8:1 /var/lib/docker/containers/" + a + "/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw\n" +
		"531 512 8:1 /var/lib/docker/containers/" + a + "/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n"
	for name, row := range map[string]struct {
		cgroup, mountinfo, hostname string
		want                        []string
	}{
		"the host":                       {"0::/system.slice/nagaya.service\n", "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "ip-10-0-0-7", nil},
		"the host, with containers' shm": {"0::/\n", "99 30 0:50 / /var/lib/docker/containers/" + a + "/mounts/shm rw - tmpfs shm rw\n", "host", nil},
		"cgroup v1":                      {"12:cpu:/docker/" + a + "\n11:memory:/docker/" + a + "\n", "", "web", []string{a}},
		"cgroup v1, ECS":                 {"12:cpu:/ecs/0123456789abcdef0123456789abcdef/" + a + "\n", "", "", []string{a}},
		"cgroup v2, host's namespace":    {"0::/system.slice/docker-" + a + ".scope\n", "", "", []string{a}},
		"cgroup v2, namespace of its own": {
			"0::/\n", mounts, a[:12], []string{a, a[:12]},
		},
		"a container in a container":   {"1:cpu:/docker/" + b + "/docker/" + a + "\n", "", "", []string{a}},
		"the network of another":       {"1:cpu:/docker/" + b + "\n", mounts, "", []string{b, a}},
		"only the name":                {"0::/\n", "", a[:12], []string{a[:12]}},
		"a name that is no id":         {"", "", a, nil},
		"lines that are cut":           {"0::", "530 512 8:1 /x\n\n530", "", nil},
		"a mount of somebody's choice": {"", "1 1 8:1 /" + a + " /etc/hosts.d rw - ext4 x rw\n", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, ContainerIDs(row.cgroup, row.mountinfo, row.hostname)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
