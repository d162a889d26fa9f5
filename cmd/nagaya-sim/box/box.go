// Package box makes pretend ECS instances that are whole machines: containers with
// systemd, journald, D-Bus, nginx and a Docker Engine of their own, in a simulated cloud
// whose addresses move packets. nagaya is not on them: it is installed as on a real one.
package box

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

// Options say what the boxes are made of.
type Options struct {
	// Bin is the directory with the program household.
	Bin string
	// Tar is the file system of a box; .ci/box-tar makes it.
	Tar string
	// Hosts are the names that the certificates in /etc/nagaya/certs cover.
	Hosts []string
}

// Set is a simulated cloud with boxes in it. Its methods, and those of its boxes, may be
// used by one goroutine at a time, except Exec, Get and the clients.
type Set struct {
	*stage.Provider

	docker *client.Client
	bin    string
	dir    string // certificates
	image  string
	boxes  []*Box
	// launched counts all boxes that there were.
	launched int
}

// New makes an empty cloud. It needs root and a Docker Engine on this machine.
func New(ctx context.Context, o Options) (*Set, error) {
	s := &Set{bin: o.Bin, image: fmt.Sprintf("nagaya/box:%d", os.Getpid())}
	var err error
	if s.dir, err = os.MkdirTemp("", "nagaya-box-"); err != nil {
		return nil, err
	}
	if err = os.Mkdir(filepath.Join(s.dir, "certs"), 0o755); err == nil {
		err = stage.MakeCerts(s.dir, o.Hosts)
	}
	if err == nil {
		s.docker, err = client.New(client.FromEnv)
	}
	if err == nil {
		err = stage.ImportTar(ctx, s.docker, o.Tar, s.image)
	}
	if err == nil {
		s.Provider, err = stage.NewProvider()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Client is a client on the internet that speaks to a public address whatever the URL's
// host is, and trusts the authority of the boxes' certificates.
func (s *Set) Client(public string) (*http.Client, error) {
	return stage.Trusting(filepath.Join(s.dir, "ca.crt"), func(ctx context.Context, port string) (net.Conn, error) {
		return s.VPC.Dial(ctx, "tcp", net.JoinHostPort(public, port))
	})
}

// Box is one machine.
type Box struct {
	// Name is that of the container on the outer engine.
	Name string
	// InstanceID is its name in the cloud, Private its private address.
	InstanceID string
	Private    netip.Addr

	set  *Set
	id   string
	host *vpc.Host
}

// Launch says what box to launch.
type Launch struct {
	// Spec is the instance; its private address is chosen here.
	Spec simaws.InstanceSpec
	// Files are put into the box before it boots, by their absolute path.
	Files map[string]File
	// Tasks are run by the box's ECS agent, by name: the arguments of docker run.
	Tasks map[string][]string
	// Mounts are directories of this machine that the box may read, by their path in it.
	Mounts map[string]string
}

// Launch starts a box and returns when it begins to boot.
func (s *Set) Launch(ctx context.Context, l Launch) (*Box, error) {
	n := s.launched
	s.launched++
	b := &Box{set: s, Name: fmt.Sprintf("nagaya-box-%d-%d", os.Getpid(), n+1), Private: netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + n)})}
	l.Spec.PrivateIP = b.Private.String()
	var err error
	if b.InstanceID, err = s.Cloud.AddInstance(l.Spec); err != nil {
		return nil, err
	}
	var binds []string
	for in, dir := range l.Mounts {
		binds = append(binds, dir+":"+in+":ro")
	}
	made, err := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: b.Name,
		Config: &container.Config{
			Image: s.image, Cmd: []string{"/bin/sh", "-c", bootScript}, Env: append(b.env(), "container=docker"), StopSignal: "SIGRTMIN+3",
			Hostname: fmt.Sprintf("ip-10-0-0-%d", 10+n), Volumes: map[string]struct{}{"/var/lib/docker": {}},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", CgroupnsMode: "private", Binds: binds,
			// All but what a machine within a machine may not have itself.
			CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_RESOURCE"},
			SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
			MaskedPaths: []string{}, ReadonlyPaths: []string{},
			Tmpfs: map[string]string{"/run": "exec", "/run/lock": "", "/tmp": "exec"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", b.Name, err)
	}
	b.id = made.ID
	s.boxes = append(s.boxes, b)
	files, err := b.files(l)
	if err != nil {
		return nil, err
	}
	if err := b.Put(ctx, files); err != nil {
		return nil, err
	}
	if _, err := s.docker.ContainerStart(ctx, b.id, client.ContainerStartOptions{}); err != nil {
		return nil, fmt.Errorf("starting %s: %w", b.Name, err)
	}
	return b, b.plug(ctx)
}

// plug connects a box that was just started with the network, for which it waits.
func (b *Box) plug(ctx context.Context) error {
	is, err := b.set.docker.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	b.host, err = b.set.VPC.Adopt(fmt.Sprintf("/proc/%d/ns/net", is.Container.State.Pid), b.Private)
	return err
}

func (b *Box) unplug() error {
	h := b.host
	if b.host = nil; h == nil {
		return nil
	}
	return b.set.VPC.Remove(h)
}

// Reboot shuts the box down in order and starts it again. It returns when it begins to boot.
func (b *Box) Reboot(ctx context.Context) error {
	patience := 30
	if _, err := b.set.docker.ContainerStop(ctx, b.id, client.ContainerStopOptions{Timeout: &patience}); err != nil {
		return err
	}
	if err := b.unplug(); err != nil {
		return err
	}
	if _, err := b.set.docker.ContainerStart(ctx, b.id, client.ContainerStartOptions{}); err != nil {
		return err
	}
	return b.plug(ctx)
}

// PowerOff ends everything on the box at once; EC2 is told that it has stopped.
func (b *Box) PowerOff(ctx context.Context) error {
	_, err := b.set.docker.ContainerKill(ctx, b.id, client.ContainerKillOptions{Signal: "KILL"})
	return errors.Join(err, b.unplug(), b.set.Cloud.SetState(b.InstanceID, "stopped"))
}

// Remove ends the box at once and takes it away.
func (b *Box) Remove(ctx context.Context) error {
	b.set.boxes = slices.DeleteFunc(b.set.boxes, func(o *Box) bool { return o == b })
	_, err := b.set.docker.ContainerRemove(ctx, b.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	return errors.Join(err, b.unplug())
}

// Exec runs a command on the box and returns what it said and its exit code.
func (b *Box) Exec(ctx context.Context, args ...string) (said string, code int, err error) {
	return stage.Exec(ctx, b.set.docker, b.id, args...)
}

// Log is what the box said on its console before its journal ran.
func (b *Box) Log(ctx context.Context) string {
	r, err := b.set.docker.ContainerLogs(ctx, b.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "50"})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	return plain(r)
}

// Close ends everything and takes it away.
func (s *Set) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, b := range slices.Clone(s.boxes) {
		errs = append(errs, b.Remove(ctx))
	}
	if s.Provider != nil {
		errs = append(errs, s.Provider.Close())
	}
	if s.docker != nil {
		_, err := s.docker.ImageRemove(ctx, s.image, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		if errdefs.IsNotFound(err) {
			err = nil
		}
		errs = append(errs, err, s.docker.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// env is the environment that leads an AWS SDK to the cloud. Metadata needs none.
func (b *Box) env() []string {
	var all []string
	for k, v := range b.set.Cloud.Env(b.InstanceID) {
		if k != "AWS_EC2_METADATA_SERVICE_ENDPOINT" {
			all = append(all, k+"="+v)
		}
	}
	return all
}
