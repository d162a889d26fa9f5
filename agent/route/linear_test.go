package route_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	requests "github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// crowds are inputs of n hosts, ports or containers, each of which some part of Build looks at
// together with all others.
var crowds = map[string]func(n int) Input{
	"hosts of a silent source": func(n int) Input {
		in := crowd(n, func(i int, c *tasks.Container) { c.Labels["nagaya.host"] = hostNumber(i) })
		in.Prev = Build(in)
		in.Snapshot.Silent = []string{""}
		return in
	},
	"hosts with ports of their own": func(n int) Input {
		in := crowd(n, func(i int, c *tasks.Container) {
			c.Env = map[string]string{"VIRTUAL_HOST": hostNumber(i), "EXTERNAL_HTTP_PORT": fmt.Sprint(1024 + i)}
		})
		in.Prev = Build(in)
		return in
	},
	"streams": func(n int) Input {
		in := crowd(n, func(i int, c *tasks.Container) {
			c.Labels["nagaya.listen"], c.Labels["nagaya.host"] = fmt.Sprintf("tls:%d", 20000+i), "a.example.com"
		})
		in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}}}
		in.Prev = Build(in)
		return in
	},
	"streams that were": func(n int) Input {
		in := crowd(n, func(i int, c *tasks.Container) { c.Labels["nagaya.listen"] = fmt.Sprintf("tcp:%d", 20000+i) })
		in.Prev = Build(in)
		later := crowd(n, func(i int, c *tasks.Container) {
			c.Labels["nagaya.listen"] = fmt.Sprintf("tcp:%d", 40000+i)
		})
		later.Prev = in.Prev
		return later
	},
	"containers that ended": func(n int) Input {
		return crowd(n, func(i int, c *tasks.Container) {
			if c.Labels["nagaya.host"] = hostNumber(i); i%2 == 0 {
				c.State, c.ExitCode, c.FinishedAt = tasks.Exited, 1, noon
			}
		})
	},
	"servers of one host": func(n int) Input {
		return crowd(n, func(i int, c *tasks.Container) { c.Labels["nagaya.host"] = "a.example.com" })
	},
	"names below a wildcard of many": func(n int) Input {
		return crowd(n, func(i int, c *tasks.Container) {
			if c.Labels["nagaya.host"] = hostNumber(i); i%2 == 0 {
				c.Labels["nagaya.host"], c.Task.Family = "*.example.com", "wild"
			}
			if i == 0 { // the youngest of the wildcard's askers holds it
				c.Task.Family = "holder"
			}
		})
	},
}

func hostNumber(i int) string { return fmt.Sprintf("h%d.example.com", i) }

func crowd(n int, change func(i int, c *tasks.Container)) Input {
	in := input()
	for i := range n {
		c := web(fmt.Sprintf("c%d", i), age(time.Duration(i)*time.Second))
		c.Labels = map[string]string{}
		c.Addrs[0], c.Ports[0].Host = netip.AddrFrom4([4]byte{172, 17, byte(i >> 8), byte(i)}), uint16(i+1)
		change(i, &c)
		in.Snapshot.Containers = append(in.Snapshot.Containers, c)
	}
	in.Options.Stream = true
	in.Requests = requests.Requests(in.Snapshot.Containers, requests.Configured(config.Default()), nginxproxy.Reader(false))
	return in
}

// The processor time that a table takes grows as its input does. Two sizes are measured side by
// side, and again until the least of both shows it, so that a busy machine only makes it longer.
func TestBuildIsLinear(t *testing.T) {
	const few, times = 1000, 10
	for name, make := range crowds {
		t.Run(name, func(t *testing.T) {
			small, large := make(few), make(few*times)
			var least [2]time.Duration
			for range 10 {
				for i, in := range []Input{small, large} {
					before := processorTime(t)
					Build(in)
					if d := processorTime(t) - before; least[i] == 0 || d < least[i] {
						least[i] = d
					}
				}
				if least[1] < 3*times*least[0] {
					return
				}
			}
			t.Errorf("%d take %s, and %d take %s", few, least[0], few*times, least[1])
		})
	}
}

func processorTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
