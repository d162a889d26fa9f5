package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

const (
	nagayaName    = "nagaya"
	caddyName     = "caddy-docker-proxy"
	dockerGenName = "docker-gen"
)

// startPeers starts the peers that are in the directory of peers.
func (b *bench) startPeers(p *agentStage) (all []*proxy, err error) {
	if b.o.Peers == "" {
		b.notes = []string{"Peers are not measured: --peers names their directory, 'make bench-routes' makes it."}
		return nil, nil
	}
	b.notes = []string{"Traefik is not measured: 'go install' cannot build it."}
	for _, peer := range []struct {
		name  string
		start func(*bench, *agentStage) (*proxy, error)
	}{{caddyName, (*bench).startCaddy}, {dockerGenName, (*bench).startDockerGen}} {
		if _, err := os.Stat(filepath.Join(b.o.Peers, peer.name)); err != nil {
			b.notes = append(b.notes, fmt.Sprintf("%s is not measured: it is not in %s.", peer.name, b.o.Peers))
			continue
		}
		x, err := peer.start(b, p)
		if err != nil {
			return all, err
		}
		x.name = peer.name
		all = append(all, x)
	}
	return all, nil
}

// startPeer starts a program beside a stage. Its output goes to the stage's log
// directory, its settings come from the arguments and the environment alone.
func startPeer(p *agentStage, env []string, program string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(program, args...)
	log, err := os.Create(p.Path("log", filepath.Base(program)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.Path("run"), "DOCKER_HOST=" + p.Docker.DaemonHost()}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for the bench, which ends it
	return cmd, cmd.Start()
}

// endPeer ends a program.
func endPeer(cmd *exec.Cmd, how syscall.Signal) error {
	_ = cmd.Process.Signal(how) // it may have ended already
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return nil
}

// startCaddy starts caddy-docker-proxy with its default settings, but for its port. It
// goes to containers by Docker's own bridge.
func (b *bench) startCaddy(p *agentStage) (*proxy, error) {
	port, admin, err := stage.FreePorts()
	if err != nil {
		return nil, err
	}
	caddyfile := p.Path("run", "Caddyfile")
	if err := os.WriteFile(caddyfile, fmt.Appendf(nil, "{\n\thttp_port %d\n}\n", port), 0o644); err != nil {
		return nil, err
	}
	cmd, err := startPeer(p, []string{"CADDY_ADMIN=" + net.JoinHostPort("127.0.0.1", strconv.Itoa(admin))},
		filepath.Join(b.o.Peers, caddyName), "docker-proxy", "--caddyfile-path", caddyfile, "--ingress-networks", "bridge")
	if err != nil {
		return nil, err
	}
	return &proxy{
		port: port, pid: cmd.Process.Pid,
		labels: func(host string) map[string]string {
			return map[string]string{"caddy": "http://" + host, "caddy.reverse_proxy": "{{upstreams 8080}}"}
		},
		close: func() error { return endPeer(cmd, syscall.SIGKILL) },
	}, nil
}

// nginx as small as docker-gen needs it, and what docker-gen makes of the containers.
const (
	dockerGenNginx = `pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	server {
		listen %[2]d default_server;
		return 503;
	}
	include %[1]s/sites.conf;
}
`
	dockerGenTemplate = `{{ range $host, $containers := groupByLabel $ "proxy.host" }}
upstream {{ $host }} {
{{ range $container := $containers }}{{ range $network := $container.Networks }}
	server {{ $network.IP }}:8080;
{{ end }}{{ end }}
}
server {
	listen %d;
	server_name {{ $host }};
	location / {
		proxy_pass http://{{ $host }};
		proxy_set_header Host $http_host;
	}
}
{{ end }}
`
)

// startDockerGen starts an nginx and docker-gen, which collects events as long as
// nginx-proxy lets it, and reloads the nginx.
func (b *bench) startDockerGen(p *agentStage) (x *proxy, err error) {
	port, _, err := stage.FreePorts()
	if err != nil {
		return nil, err
	}
	dir := p.Path(dockerGenName)
	conf, sites, template := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "sites.conf"), filepath.Join(dir, "sites.tmpl")
	err = errors.Join(
		os.Mkdir(dir, 0o755), os.WriteFile(sites, nil, 0o644),
		os.WriteFile(conf, fmt.Appendf(nil, dockerGenNginx, dir, port), 0o644),
		os.WriteFile(template, fmt.Appendf(nil, dockerGenTemplate, port), 0o644),
	)
	if err != nil {
		return nil, err
	}
	nginx := cmp.Or(b.o.Nginx, "nginx")
	server, err := startPeer(p, nil, nginx, "-c", conf, "-g", "daemon off;")
	if err != nil {
		return nil, err
	}
	cmd, err := startPeer(p, nil, filepath.Join(b.o.Peers, dockerGenName),
		"-watch", "-wait", "100ms:500ms", "-notify", fmt.Sprintf("%s -c %s -s reload", nginx, conf), template, sites)
	if err != nil {
		return nil, errors.Join(err, endPeer(server, syscall.SIGTERM))
	}
	return &proxy{
		port: port, pid: cmd.Process.Pid, nginx: func() int { return server.Process.Pid },
		labels: func(host string) map[string]string { return map[string]string{"proxy.host": host} },
		close:  func() error { return errors.Join(endPeer(cmd, syscall.SIGKILL), endPeer(server, syscall.SIGTERM)) },
	}, nil
}
