package stage

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// refuses waits until a host answers 503.
func refuses(t *testing.T, s *Stage, host string) {
	t.Helper()
	until(t, host+" answers 503", func() error {
		code, body, err := s.Get(t.Context(), host)
		if err == nil && code != 503 {
			err = fmt.Errorf("status %d, body %q", code, body)
		}
		return err
	})
}

func signal(t *testing.T, s *Stage, name, signal string) {
	t.Helper()
	_, err := s.Docker.ContainerKill(t.Context(), name, client.ContainerKillOptions{Signal: signal})
	must(t, err)
}

func checked(c Container, exit string) Container {
	c.Health = &container.HealthConfig{
		Test: []string{"CMD", "/household", "-exit", exit}, Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, Retries: 1,
	}
	return c
}

// What makes a container ready, and what makes it go, with a real engine: signals,
// pauses, health checks, new revisions.
func TestReadyAndGoing(t *testing.T) {
	s, nginx := household(t, Options{Hosts: []string{"c.test"}})
	waits := func(name, why string) {
		t.Helper()
		shows(t, s, name+" waits: "+why, func(st report.Status) bool {
			for _, w := range st.Routes.Waiting {
				if strings.Contains(w.Ref, name) && w.Why == why {
					return true
				}
			}
			return false
		})
	}

	// A signal that is not the container's stop signal is its own business. What comes
	// after it shows that it was seen.
	_, end := unbroken(t, s, "a.test", 50)
	signal(t, s, "alpha-1", "USR1")
	own := service("beta", "1", "b.test")
	own.StopSignal = "SIGUSR1"
	run(t, s, own)
	answers(t, s, "b.test", "beta 1")
	end()
	// The same signal is the end of another one, which still runs.
	signal(t, s, "beta-1", "USR1")
	waits("beta:1", "stopping")
	refuses(t, s, "b.test")

	_, err := s.Docker.ContainerPause(t.Context(), "alpha-1", client.ContainerPauseOptions{})
	must(t, err)
	waits("alpha:1", "paused")
	refuses(t, s, "a.test")
	_, err = s.Docker.ContainerUnpause(t.Context(), "alpha-1", client.ContainerUnpauseOptions{})
	must(t, err)
	unpaused := time.Now()
	answers(t, s, "a.test", "alpha 1")
	t.Logf("served %s after it went on", time.Since(unpaused).Round(time.Millisecond))

	// A next revision that is not healthy takes nothing over; a healthy one does.
	_, end = unbroken(t, s, "a.test", 50)
	run(t, s, checked(service("alpha", "2", "a.test"), "1"))
	waits("alpha:2", "unhealthy")
	told(t, s, "container-unhealthy", "alpha:2/web")
	run(t, s, checked(service("alpha", "3", "a.test"), "0"))
	shows(t, s, "two servers", func(st report.Status) bool {
		return len(st.Routes.Sites) > 0 && len(st.Routes.Sites[0].Locations) == 1 && servers(st) == 2
	})
	settled(t, s)
	must(t, s.Stop(t.Context(), "alpha-1", 5))
	answers(t, s, "a.test", "alpha 3")
	end()

	// The only one is kept although it is not healthy: better some answer than none.
	run(t, s, checked(service("gamma", "1", "c.test"), "1"))
	answers(t, s, "c.test", "gamma 1")
	told(t, s, "container-unhealthy", "gamma:1/web")
	sameNginx(t, s, nginx)
}

// What only the ECS agent knows: that a task is about to be stopped, and where a task
// with a network interface of its own is.
func TestWhatTheECSAgentKnows(t *testing.T) {
	s, nginx := household(t, Options{})
	alpha, err := s.Docker.ContainerInspect(t.Context(), "alpha-1", client.ContainerInspectOptions{})
	must(t, err)
	pause := Container{Name: "pause-" + s.id, Args: []string{"-listen", ""}, Labels: map[string]string{"com.amazonaws.ecs.container-name": "~internal~ecs~pause", "nagaya.host": "never.test"}}
	of, err := s.Run(t.Context(), pause)
	must(t, err)
	vpc := service("vpc", "1", "b.test")
	vpc.Network, vpc.Ports, vpc.Labels["nagaya.port"] = "container:"+of, nil, "8080"
	inside, err := s.Run(t.Context(), vpc)
	must(t, err)
	around, err := s.Docker.ContainerInspect(t.Context(), of, client.ContainerInspectOptions{})
	must(t, err)
	addr := around.Container.NetworkSettings.Networks[s.network].IPAddress.String()

	type word = map[string]any
	say := func(desired string) {
		t.Helper()
		task := func(family, desired, id, mode, addr string) word {
			return word{
				"Arn": "arn:aws:ecs:ap-northeast-1:123456789012:task/default/" + family, "DesiredStatus": desired, "KnownStatus": "RUNNING", "Family": family, "Version": "1",
				"Containers": []word{{"DockerId": id, "Name": "web", "Networks": []word{{"NetworkMode": mode, "IPv4Addresses": []string{addr}}}}},
			}
		}
		tasks := word{"Tasks": []word{
			task("alpha", desired, alpha.Container.ID, "bridge", "172.17.0.9"), task("vpc", "RUNNING", inside, "awsvpc", addr),
			// Long gone, and still listed.
			task("old", "STOPPED", strings.Repeat("0", 64), "awsvpc", addr),
		}}
		must(t, s.Control(t.Context(), http.MethodPut, "/instances/"+s.InstanceID+"/tasks", tasks, nil))
	}
	say("RUNNING")
	answers(t, s, "b.test", "vpc 1")
	answers(t, s, "a.test", "alpha 1")
	say("STOPPED")
	refuses(t, s, "a.test")
	answers(t, s, "b.test", "vpc 1")
	st := shows(t, s, "the task that goes", func(st report.Status) bool {
		return len(st.Routes.Waiting) == 1 && st.Routes.Waiting[0].Why == "stopping"
	})
	for _, site := range st.Routes.Sites {
		if site.Host == "never.test" {
			t.Error("the container that only holds a network is routed")
		}
		if site.Host != "b.test" {
			continue
		}
		if at := st.Routes.Pools[site.PoolKey(site.Locations[0])].Servers[0].Addr; at.String() != addr+":8080" {
			t.Errorf("the task with its own interface is reached at %s, want %s", at, addr)
		}
	}
	sameNginx(t, s, nginx)
}

// A container with the labels of a task family that the ECS agent does not list takes nothing
// of that family; and what the ECS agent has said holds after a restart in which it is silent.
func TestContainerThatECSDidNotStart(t *testing.T) {
	s, nginx := household(t, Options{})
	thief := service("alpha", "9", "a.test")
	thief.Name, thief.NotByECS, thief.Labels["nagaya.weight"] = "thief-"+s.id, true, "1000"
	run(t, s, thief)
	alone := func() {
		t.Helper()
		told(t, s, "container-not-listed", thief.Name)
		st := shows(t, s, "the thief waits, and alpha serves", func(st report.Status) bool {
			return len(st.Routes.Waiting) == 1 && st.Routes.Waiting[0].Why == "unlisted" && len(st.Routes.LiveHosts()) == 1
		})
		if site := st.Routes.Sites[0]; site.Family != "ecs:alpha" || len(st.Routes.Pools[site.PoolKey(site.Locations[0])].Servers) != 1 {
			t.Errorf("%+v", site)
		}
		answers(t, s, "a.test", "alpha 1")
	}
	alone()
	must(t, s.Control(t.Context(), http.MethodPost, "/faults", map[string]any{"service": "ecs-agent", "drop": "before"}, nil))
	restarted(t, s)
	alone()
	sameNginx(t, s, nginx)
}
