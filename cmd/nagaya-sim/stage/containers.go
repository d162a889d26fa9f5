package stage

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// stageLabel marks what belongs to a stage, so that nothing else is ever removed.
const stageLabel = "nagaya-stage"

// Container says what to run.
type Container struct {
	Name string
	// Args are household's arguments.
	Args   []string
	Labels map[string]string
	Env    []string
	// Ports maps container ports ("8080/tcp") to host ports; "0" is a dynamic one.
	Ports map[string]string
	// Health is a HEALTHCHECK command in exec form; nil is none.
	Health *container.HealthConfig
	// StopSignal is what ends it; empty is SIGTERM.
	StopSignal string
	// HostNetwork shares the host's network.
	HostNetwork bool
	// Network is the Docker network to be on, or container:ID to share that one's; empty
	// is the stage's.
	Network string
	// Restart starts it again whenever it ends.
	Restart bool
	// NotByECS keeps it from the simulated ECS agent's list, whatever its labels say.
	NotByECS bool
}

func (s *Stage) image() string { return "nagaya/household:" + s.id }

// ImageConfig is what the sample image says of itself, as docker import -c takes it.
const ImageConfig = `ENTRYPOINT ["/household"]`

// Image is a tar of the sample image: nothing but the program household.
func Image(bin string) (io.Reader, error) {
	program, err := os.ReadFile(filepath.Join(bin, "household"))
	if err != nil {
		return nil, fmt.Errorf("making the sample image: %w", err)
	}
	b := &bytes.Buffer{}
	w := tar.NewWriter(b)
	if err := w.WriteHeader(&tar.Header{Name: "household", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	return b, w.Close()
}

// makeImage gives the engine the sample image.
func (s *Stage) makeImage(ctx context.Context) error {
	image, err := Image(s.Bin)
	if err != nil {
		return err
	}
	r, err := s.Docker.ImageImport(ctx, client.ImageImportSource{Source: image, SourceName: "-"}, s.image(),
		client.ImageImportOptions{Changes: []string{ImageConfig}})
	if err != nil {
		return fmt.Errorf("making the sample image: %w", err)
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func (s *Stage) removeImage(ctx context.Context) error {
	_, err := s.Docker.ImageRemove(ctx, s.image(), client.ImageRemoveOptions{Force: true, PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Run makes a container, starts it and returns its id.
func (s *Stage) Run(ctx context.Context, c Container) (string, error) {
	id, err := s.Create(ctx, c)
	if err != nil {
		return "", err
	}
	if _, err := s.Docker.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return "", fmt.Errorf("starting container %s: %w", c.Name, err)
	}
	return id, nil
}

// Create makes a container that is not started, and returns its id.
func (s *Stage) Create(ctx context.Context, c Container) (string, error) {
	ports := network.PortMap{}
	exposed := network.PortSet{}
	for inside, outside := range c.Ports {
		p, err := network.ParsePort(inside)
		if err != nil {
			return "", err
		}
		exposed[p] = struct{}{}
		ports[p] = []network.PortBinding{{HostPort: outside}}
	}
	labels := map[string]string{stageLabel: s.id}
	for k, v := range c.Labels {
		labels[k] = v
	}
	mode := container.NetworkMode(cmp.Or(c.Network, s.network))
	if c.HostNetwork {
		mode = "host"
	}
	again := container.RestartPolicy{}
	if c.Restart {
		again.Name = container.RestartPolicyAlways
	}
	made, err := s.Docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: c.Name,
		Config: &container.Config{
			Image: s.image(), Cmd: c.Args, Labels: labels, Env: c.Env, ExposedPorts: exposed, Healthcheck: c.Health, StopSignal: c.StopSignal,
		},
		HostConfig: &container.HostConfig{NetworkMode: mode, PortBindings: ports, RestartPolicy: again},
	})
	if errdefs.IsConflict(err) {
		if dir := s.leftBy(ctx, c.Name); dir != "" {
			err = fmt.Errorf("%w\n  an earlier run was left with it (KEEP=1); end that: bin/nagaya-sim demo --end %s", err, dir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("creating container %s: %w", c.Name, err)
	}
	if c.NotByECS {
		return made.ID, nil
	}
	return made.ID, s.list(ctx, made.ID, c.Labels)
}

// leftBy is the directory of another stage that has a container of the name; empty if none has.
func (s *Stage) leftBy(ctx context.Context, name string) string {
	r, err := s.Docker.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil || r.Container.Config == nil || r.Container.Config.Labels[stageLabel] == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(s.Dir), r.Container.Config.Labels[stageLabel])
}

// Stop stops a container as the ECS agent does: its stop signal, then, after the
// given seconds, SIGKILL.
func (s *Stage) Stop(ctx context.Context, name string, seconds int) error {
	_, err := s.Docker.ContainerStop(ctx, name, client.ContainerStopOptions{Timeout: &seconds})
	return err
}

// Remove removes a container, running or not.
func (s *Stage) Remove(ctx context.Context, name string) error {
	_, err := s.Docker.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *Stage) removeContainers(ctx context.Context) error {
	list, err := s.Docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", stageLabel+"="+s.id)})
	if err != nil {
		return err
	}
	errs := make([]error, len(list.Items))
	var ends sync.WaitGroup
	for i, c := range list.Items {
		ends.Go(func() { errs[i] = s.Remove(ctx, c.ID) })
	}
	ends.Wait()
	return errors.Join(errs...)
}
