package brake

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// engine is the real one of this host.
func engine(t *testing.T) *client.Client {
	t.Helper()
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = client.DefaultDockerHost
	}
	cli, err := client.New(client.WithHost(host))
	if err == nil {
		_, err = cli.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true})
	}
	testenv.Need(t, err)
	t.Cleanup(func() { cli.Close() })
	return cli
}

// image is one that does nothing for a while.
func image(t *testing.T, cli *client.Client) string {
	t.Helper()
	ref := fmt.Sprintf("nagaya-test-brake:%d", os.Getpid())
	root := testenv.ImageOf(t, "package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(10 * time.Minute) }\n")
	r, err := cli.ImageImport(t.Context(), client.ImageImportSource{Source: root, SourceName: "-"}, ref, client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = cli.ImageRemove(context.WithoutCancel(t.Context()), ref, client.ImageRemoveOptions{Force: true})
	})
	return ref
}

// start runs a container. It has no label, because agents of other tests may watch the same engine.
func start(t *testing.T, cli *client.Client, ref string, r container.Resources) string {
	t.Helper()
	made, err := cli.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: ref, Cmd: []string{"/app"}}, HostConfig: &container.HostConfig{Resources: r, NetworkMode: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = cli.ContainerRemove(context.WithoutCancel(t.Context()), made.ID, client.ContainerRemoveOptions{Force: true})
	})
	if _, err := cli.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// look is how a container stands, in a few words.
func look(t *testing.T, cli *client.Client, id string) string {
	t.Helper()
	got, err := cli.ContainerInspect(context.WithoutCancel(t.Context()), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := got.Container.HostConfig
	text := fmt.Sprintf("shares %d", h.CPUShares)
	switch {
	case h.NanoCPUs > 0:
		text += fmt.Sprintf(" nano %d", h.NanoCPUs)
	case h.CPUQuota > 0:
		text += fmt.Sprintf(" quota %d/%d", h.CPUQuota, h.CPUPeriod)
	}
	if got.Container.State.Paused {
		text += " paused"
	}
	return text
}

func decision(way gate.Slow, each float64) gate.Decision {
	return gate.Decision{Known: true, Brake: gate.Brake{Way: way, Each: each, Reason: "the forecast turned"}}
}

// Containers of batches are held back and set free as they were, and nothing else is touched; also by the next
// agent when one was killed, and at the end.
func TestContainersAreHeldBack(t *testing.T) {
	cli := engine(t)
	ref := image(t, cli)
	ids := []string{
		start(t, cli, ref, container.Resources{}),
		start(t, cli, ref, container.Resources{NanoCPUs: 5e8}),
		start(t, cli, ref, container.Resources{CPUQuota: 60_000, CPUPeriod: 200_000}),
	}
	service := start(t, cli, ref, container.Resources{})
	o := Options{Host: cli.DaemonHost(), File: filepath.Join(t.TempDir(), "brakes.json"), Every: 20 * time.Millisecond}
	const free, paused = "shares 2|shares 2 nano 500000000|shares 2 quota 60000/200000",
		"shares 2 paused|shares 2 nano 500000000 paused|shares 2 quota 60000/200000 paused"
	want := func(d gate.Decision, decisions chan<- gate.Decision, want string) {
		t.Helper()
		decisions <- d
		var got string
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			var all []string
			for _, id := range ids {
				all = append(all, look(t, cli, id))
			}
			if got = strings.Join(all, "|"); got == want {
				return
			}
		}
		t.Fatalf("containers are %q, want %q", got, want)
	}
	run := func() (chan<- gate.Decision, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		decisions, ended := make(chan gate.Decision), make(chan error, 1)
		batches := make(chan []string, 1)
		batches <- ids
		o.Batches = batches
		go func() {
			ended <- Run(ctx, o, decisions, func(ps []problem.Problem) {
				if len(ps) > 0 {
					t.Errorf("problems %+v", ps)
				}
			})
		}()
		return decisions, func() {
			t.Helper()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	decisions, stop := run()
	want(gate.Decision{}, decisions, free) // the weight is not for the gate to decide
	want(decision(gate.SlowQuota, 0.4), decisions, "shares 2 quota 40000/100000|shares 2 nano 400000000|shares 2 quota 60000/200000")
	want(decision(gate.SlowPause, 0), decisions, paused)
	want(decision(gate.SlowQuota, 0.2), decisions, "shares 2 quota 20000/100000|shares 2 nano 200000000|shares 2 quota 40000/200000")
	want(decision(gate.SlowOff, 0), decisions, free)
	want(decision(gate.SlowPause, 0), decisions, paused)
	killed, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	standing := func(what string) {
		t.Helper()
		for i, part := range strings.Split(what, "|") {
			if got := look(t, cli, ids[i]); got != part {
				t.Errorf("container %d is %q, want %q", i, got, part)
			}
		}
	}
	standing(free)

	// An agent that was killed has left a container paused and its file behind.
	if err := os.WriteFile(o.File, killed, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := cli.ContainerPause(t.Context(), id, client.ContainerPauseOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	decisions, stop = run()
	decisions <- gate.Decision{} // the credits are not known yet
	want(decision("", 0), decisions, free)
	// One that somebody else has paused is left alone.
	if _, err := cli.ContainerPause(t.Context(), ids[0], client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(free, "|")
	want(decision(gate.SlowPause, 0), decisions, paused)
	stop()
	standing(strings.Join([]string{parts[0] + " paused", parts[1], parts[2]}, "|"))
	if got := look(t, cli, service); got != "shares 0" {
		t.Errorf("the service is %q", got)
	}
	if held := o.readRecords(); len(held) != 0 {
		t.Errorf("still written down: %v", held)
	}
}
