// Package stage sets up a pretend ECS container instance: a simulated cloud, an
// agent as a process of its own, and containers on a real Docker Engine. The
// demonstration and the end-to-end tests play on it.
package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

// Options say what the stage is made of.
type Options struct {
	// Bin is the directory with the programs nagaya, nagaya-sim and household.
	Bin string
	// Dir is a directory of the stage's own; empty makes a temporary one, which
	// Close removes.
	Dir string
	// Hosts are the names that the certificates cover.
	Hosts []string
	// Config is added to the agent's configuration file, as YAML. Lines that begin
	// with two spaces go on with the settings of nginx.
	Config string
	// Engine is the Docker Engine on which the stage runs its containers; empty is
	// that of DOCKER_HOST.
	Engine string
	// DockerHost is the Docker Engine that the agent is told of; empty is the one on
	// which the stage runs its containers.
	DockerHost string
	// Host is the network that the agent, and nginx with it, run in; nil is that of
	// this process. There nginx has the usual ports.
	Host *vpc.Host
	// Network is the Docker network of the containers; empty is Docker's own bridge.
	Network string
	// CertsOf is another stage whose certificates are this one's too.
	CertsOf *Stage
}

// Stage is a pretend host. Its methods may be used by one goroutine at a time,
// except Get, Run, Stop and Load.
type Stage struct {
	Dir       string
	Bin       string
	HTTPPort  int
	HTTPSPort int
	Docker    *client.Client
	// Env is the agent's environment: where the simulated cloud is.
	Env []string
	// ControlURL is the simulated cloud's control endpoint.
	ControlURL string
	// InstanceID is this host in the simulated cloud.
	InstanceID string

	host        *vpc.Host
	network     string
	engine      *ownEngine
	hosts       []string
	dockerH     string // the engine of the containers
	agentDocker string // the engine that the agent is told of
	own         bool   // Dir was made here
	id          string
	ecs         ecsTasks
	cloud       *process
	agent       *process
}

// endWithUs is told of every directory of a stage in a test, so that what runs there ends with it.
var endWithUs = func(string) {}

// New makes the directories, certificates, configuration and image. Nothing runs yet.
func New(ctx context.Context, o Options) (*Stage, error) {
	s := &Stage{
		Dir: o.Dir, Bin: o.Bin, hosts: o.Hosts, host: o.Host, network: cmp.Or(o.Network, "bridge"),
		dockerH: cmp.Or(o.Engine, os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock"),
	}
	s.agentDocker = cmp.Or(o.DockerHost, s.dockerH)
	var err error
	if s.Dir == "" {
		s.own = true
		if s.Dir, err = os.MkdirTemp("", "nagaya-stage-"); err != nil {
			return nil, err
		}
		endWithUs(s.Dir)
	}
	// nginx's workers run as another user and read what is beneath.
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return nil, err
	}
	s.id = filepath.Base(s.Dir)
	for _, d := range []string{"certs", "state", "run", "log"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if s.HTTPPort, s.HTTPSPort = 80, 443; s.host == nil {
		if s.HTTPPort, s.HTTPSPort, err = FreePorts(); err != nil {
			return nil, err
		}
	}
	if o.CertsOf != nil {
		err = s.copyCerts(o.CertsOf)
	} else {
		err = MakeCerts(s.Dir, s.hosts)
	}
	if err != nil {
		return nil, err
	}
	if s.host != nil {
		if s.engine, err = s.shareEngine(); err != nil {
			return nil, err
		}
		s.agentDocker = s.engine.url
	}
	if err := s.WriteConfig(o.Config); err != nil {
		return nil, err
	}
	if s.Docker, err = client.New(client.WithHost(s.dockerH)); err != nil {
		return nil, err
	}
	if err := s.makeImage(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// FreePorts finds two ports that nobody listens on, below Linux's range for
// ports that are chosen by themselves: one of those could be taken meanwhile.
func FreePorts() (int, int, error) {
	var ports []int
	for range 1000 {
		port := 20_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == 2 {
			return ports[0], ports[1], nil
		}
	}
	return 0, 0, errors.New("no two free ports between 20000 and 30000")
}

// ConfigFile is the path of the agent's configuration.
func (s *Stage) ConfigFile() string { return filepath.Join(s.Dir, "nagaya.yaml") }

// Path returns the path of something in the stage's directory.
func (s *Stage) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// WriteConfig writes the agent's configuration: what the stage needs, and more.
func (s *Stage) WriteConfig(more string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "state-dir: %s\nrun-dir: %s\nlog-dir: %s\n", s.Path("state"), s.Path("run"), s.Path("log"))
	fmt.Fprintf(&b, "docker: {host: %q}\n", s.agentDocker)
	fmt.Fprintf(&b, "certs: {dir: %s}\n", s.Path("certs"))
	fmt.Fprintf(&b, "nginx:\n  http-port: %d\n  https-port: %d\n", s.HTTPPort, s.HTTPSPort)
	if b.WriteString(more); !strings.Contains(more, "metrics:") {
		b.WriteString("metrics: {listen: ''}\n") // an agent of this host may have the port
	}
	tmp := s.ConfigFile() + ".new"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.ConfigFile())
}

// Close ends everything that the stage started and removes what it made.
func (s *Stage) Close() error {
	var errs []error
	errs = append(errs, s.StopAgent())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if s.Docker != nil {
		errs = append(errs, s.removeContainers(ctx), s.removeImage(ctx), s.Docker.Close())
	}
	errs = append(errs, s.endNginx(), s.cloud.stop(5*time.Second), s.engine.close())
	if s.own {
		errs = append(errs, os.RemoveAll(s.Dir))
	}
	return errors.Join(errs...)
}
