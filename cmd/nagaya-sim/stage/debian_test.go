package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// debianImage is a Debian with nginx and systemd, for this run of the tests.
var debianImage = fmt.Sprintf("nagaya/debian:%d", os.Getpid())

// importDebian makes the image, once. It is made of a tar, because no registry may
// be reached.
var importDebian = sync.OnceValue(func() error {
	out, err := exec.Command("../../../.ci/debian-tar").Output()
	if err != nil {
		return fmt.Errorf("making a Debian: %w", err)
	}
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer cli.Close()
	return ImportTar(context.Background(), cli, strings.TrimSpace(string(out)), debianImage)
})

// removeImages removes what was made of images.
func removeImages(ctx context.Context, names ...string) error {
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer cli.Close()
	var errs []error
	for _, name := range names {
		if _, err := cli.ImageRemove(ctx, name, client.ImageRemoveOptions{Force: true, PruneChildren: true}); !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// debian makes a container of a Debian that is removed with the stage. It has the
// image, the stage's label, and no more than the configurations say.
func debian(t *testing.T, s *Stage, name string, c container.Config, h container.HostConfig) string {
	t.Helper()
	if err := importDebian(); os.Geteuid() != 0 {
		testenv.Need(t, err)
	} else {
		must(t, err)
	}
	c.Image = debianImage
	labels := map[string]string{stageLabel: s.id}
	for k, v := range c.Labels {
		labels[k] = v
	}
	c.Labels = labels
	made, err := s.Docker.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: &c, HostConfig: &h})
	must(t, err)
	_, err = s.Docker.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of container %s:\n%s", name, containerLog(s, made.ID))
		}
	})
	return made.ID
}

func containerLog(s *Stage, id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := s.Docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "100"})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b) + fmt.Sprint(errors.Join(err))
}

// ports publishes the stage's ports under their own numbers.
func (s *Stage) ports(t *testing.T) (network.PortSet, network.PortMap) {
	t.Helper()
	set, bound := network.PortSet{}, network.PortMap{}
	for _, n := range []int{s.HTTPPort, s.HTTPSPort} {
		p, err := network.ParsePort(fmt.Sprintf("%d/tcp", n))
		must(t, err)
		set[p], bound[p] = struct{}{}, []network.PortBinding{{HostPort: fmt.Sprint(n)}}
	}
	return set, bound
}

// documented is the command of nginx's container that docs/nginx.md shows, with the
// stage's directories instead of the default ones.
func documented(t *testing.T, s *Stage) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "nginx.md"))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), " sh -c '")
	command, _, found := strings.Cut(rest, "'\n")
	if !found {
		t.Fatal("docs/nginx.md shows no command")
	}
	return strings.NewReplacer(
		"/var/lib/nagaya/", s.Path("state")+"/", "/run/nagaya/", s.Path("run")+"/", "/var/log/nagaya/", s.Path("log")+"/",
	).Replace(command)
}

// binds are the options -v of nginx's container.
func (s *Stage) binds() []string {
	var all []string
	for _, dir := range []string{s.Path("state", "nginx"), s.Path("run", "nginx"), s.Path("log")} {
		all = append(all, dir+":"+dir)
	}
	return append(all, s.Path("certs")+":"+s.Path("certs")+":ro")
}
