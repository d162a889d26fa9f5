package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// app is what runs in the test's containers: it listens, and takes a moment to
// stop after SIGTERM, as a server that drains does.
const app = `package main

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go http.ListenAndServe(":80", nil)
	<-c
	time.Sleep(300 * time.Millisecond)
}
`

// realEngine starts a Docker Engine that belongs to the test alone. Engines of
// several tests must not run side by side (they would share docker0 and the
// packet filter), so a name that only one process can hold keeps them apart.
func realEngine(t *testing.T) *client.Client {
	t.Helper()
	testenv.NeedRoot(t)
	bin := testenv.NeedCommand(t, "dockerd")
	alone(t)
	// Not t.TempDir: the socket's path must stay below 108 bytes.
	dir, err := os.MkdirTemp("", "nagaya-engine-")
	if err != nil {
		t.Fatal(err)
	}
	host := "unix://" + dir + "/docker.sock"
	var log bytes.Buffer
	cmd := exec.Command(bin, "--data-root", dir+"/data", "--exec-root", dir+"/exec", "-p", dir+"/pid", "-H", host)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	cli, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := cli.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}); err == nil {
			return cli
		}
		if time.Now().After(deadline) {
			t.Fatalf("dockerd did not come up:\n%s", log.String())
		}
		backoff.Sleep(t.Context(), 50*time.Millisecond)
	}
}

// alone waits until no other test has an engine. The name is in the abstract
// namespace, so it ends with the process and leaves no file behind.
func alone(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; {
		l, err := net.Listen("unix", "@nagaya-test-engine")
		if err == nil {
			t.Cleanup(func() { l.Close() })
			return
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			t.Fatalf("waiting for the engine of another test: %v", err)
		}
		backoff.Sleep(t.Context(), 100*time.Millisecond)
	}
}

// importApp compiles the app and imports it as an image of one file.
func importApp(t *testing.T, cli *client.Client, ref string) {
	t.Helper()
	r, err := cli.ImageImport(t.Context(), client.ImageImportSource{Source: testenv.ImageOf(t, app), SourceName: "-"}, ref, client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
}

func find(c tasks.Containers, name string) tasks.Container {
	for _, x := range c.List {
		if x.Name == name {
			return x
		}
	}
	return tasks.Container{}
}

func TestRealEngine(t *testing.T) {
	cli := realEngine(t)
	importApp(t, cli, "app:1")
	until := watching(t, Options{Host: cli.DaemonHost(), Foreign: virtualHost})
	until("the engine", func(c tasks.Containers) bool { return c.Complete })

	id := create(t, cli, "web", &container.HostConfig{
		PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{}}},
	})
	share := create(t, cli, "shares", &container.HostConfig{NetworkMode: container.NetworkMode("container:" + id)})
	until("the created container", func(c tasks.Containers) bool { return find(c, "web").State == tasks.Created })

	for _, x := range []string{id, share} {
		if _, err := cli.ContainerStart(t.Context(), x, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got := until("both running", func(c tasks.Containers) bool {
		return find(c, "web").State == tasks.Running && find(c, "shares").State == tasks.Running
	})
	web := find(got, "web")
	if len(web.Ports) == 0 || web.Ports[0].Container != 80 || web.Ports[0].Host == 0 {
		t.Errorf("ports = %+v, want 80/tcp published", web.Ports)
	}
	if len(web.Addrs) != 1 || web.Network != tasks.Bridge {
		t.Errorf("network %q, addresses %v; want one address on the bridge", web.Network, web.Addrs)
	}
	if web.Labels["nagaya.host"] != "a.example.com" || web.Env["VIRTUAL_HOST"] != "v.example.com" || len(web.Env) != 1 {
		t.Errorf("labels %v, env %v", web.Labels, web.Env)
	}
	merged := tasks.Merge(got, tasks.Agent{}, tasks.Containers{Complete: true})
	for _, c := range merged.Containers {
		if c.Name == "shares" && (len(c.Addrs) != 1 || c.Addrs[0] != web.Addrs[0]) {
			t.Errorf("the container that shares web's network has addresses %v, want %v", c.Addrs, web.Addrs)
		}
	}

	stopped := make(chan error, 1)
	go func() {
		_, err := cli.ContainerStop(context.WithoutCancel(t.Context()), id, client.ContainerStopOptions{})
		stopped <- err
	}()
	until("stopping while it still runs", func(c tasks.Containers) bool {
		w := find(c, "web")
		return w.Stopping && w.State == tasks.Running
	})
	until("exited", func(c tasks.Containers) bool {
		w := find(c, "web")
		return w.State == tasks.Exited && w.Stopping
	})
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if _, err := cli.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	until("running again", func(c tasks.Containers) bool {
		w := find(c, "web")
		return w.State == tasks.Running && !w.Stopping
	})
	if _, err := cli.ContainerPause(t.Context(), id, client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	until("paused", func(c tasks.Containers) bool { return find(c, "web").State == tasks.Paused })
	for _, x := range []string{id, share} {
		if _, err := cli.ContainerRemove(t.Context(), x, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	until("removed", func(c tasks.Containers) bool { return len(c.List) == 0 })
}

func create(t *testing.T, cli *client.Client, name string, host *container.HostConfig) (id string) {
	t.Helper()
	cfg := &container.Config{
		Image:  "app:1",
		Cmd:    []string{"/app"},
		Env:    []string{"VIRTUAL_HOST=v.example.com", "SECRET=1"},
		Labels: map[string]string{"nagaya.host": "a.example.com", "unrelated": "1"},
	}
	if !host.NetworkMode.IsContainer() {
		cfg.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}}
	}
	r, err := cli.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: cfg, HostConfig: host})
	if err != nil {
		t.Fatal(fmt.Errorf("creating %s: %w", name, err))
	}
	return r.ID
}
