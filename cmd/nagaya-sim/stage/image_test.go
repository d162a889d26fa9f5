package stage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// proxyImage is the project's image, for this run of the tests.
var proxyImage = fmt.Sprintf("nagaya/image:%d", os.Getpid())

// buildImage makes it from its Dockerfile on a Debian with nginx, with the classic
// builder, once.
var buildImage = sync.OnceValue(func() error {
	if err := importDebian(); err != nil {
		return err
	}
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer cli.Close()
	in, err := imageContext()
	if err != nil {
		return err
	}
	built, err := cli.ImageBuild(context.Background(), in, client.ImageBuildOptions{
		Tags: []string{proxyImage}, BuildArgs: map[string]*string{"BASE": &debianImage}, Remove: true, ForceRemove: true, Version: build.BuilderV1,
	})
	if err != nil {
		return err
	}
	defer built.Body.Close()
	lines := bufio.NewScanner(built.Body)
	for lines.Scan() {
		var said struct{ Error string }
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil || said.Error != "" {
			return fmt.Errorf("building the image: %w %s", err, said.Error)
		}
	}
	return lines.Err()
})

// imageContext is what make image gives to the builder.
func imageContext() (io.Reader, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, from := range map[string]string{"Dockerfile": "../../../packaging/image/Dockerfile", "nagaya": bin + "/nagaya"} {
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	return &b, w.Close()
}

// proxy is a container of the image, as a user of nginx-proxy runs it.
type proxy struct {
	t  *testing.T
	s  *Stage
	id string
}

func newProxy(t *testing.T, o Options) *proxy {
	t.Helper()
	s := newStage(t, o)
	if err := buildImage(); os.Geteuid() != 0 {
		testenv.Need(t, err)
	} else {
		must(t, err)
	}
	p := &proxy{t: t, s: s}
	return p
}

// documentedRun is the command by which docs/from-nginx-proxy.md runs the proxy, word
// by word.
func documentedRun(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/from-nginx-proxy.md")
	must(t, err)
	_, rest, found := strings.Cut(string(text), "docker run -d --name proxy ")
	command, _, ended := strings.Cut(rest, "nagaya:latest\n")
	if !found || !ended {
		t.Fatal("the documentation shows no command")
	}
	return strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
}

// here is a path of the documents as it is on the stage: what they call /srv/proxy
// and Docker's socket are the stage's.
func (p *proxy) here(path string) string {
	if path == "/var/run/docker.sock" {
		return strings.TrimPrefix(p.s.dockerH, "unix://")
	}
	return strings.Replace(path, "/srv/proxy/", p.s.Dir+"/", 1)
}

// run runs the image with the options of docker run: -p, -v, -e and --network.
// Ports 80 and 443 of the host are the stage's.
func (p *proxy) run(words ...string) {
	p.t.Helper()
	c := container.Config{Image: proxyImage, Labels: map[string]string{stageLabel: p.s.id}, ExposedPorts: network.PortSet{}}
	h := container.HostConfig{PortBindings: network.PortMap{}}
	if len(words)%2 != 0 {
		p.t.Fatalf("options and values are not in pairs: %q", words)
	}
	for i := 0; i < len(words); i += 2 {
		switch v := words[i+1]; words[i] {
		case "-v":
			from, to, _ := strings.Cut(v, ":")
			h.Binds = append(h.Binds, p.here(from)+":"+to)
		case "-e":
			c.Env = append(c.Env, v)
		case "--network":
			h.NetworkMode = container.NetworkMode(v)
		case "-p":
			outside, inside, _ := strings.Cut(v, ":")
			port, err := network.ParsePort(inside + "/tcp")
			must(p.t, err)
			bound := map[string]int{"80": p.s.HTTPPort, "443": p.s.HTTPSPort}[outside]
			c.ExposedPorts[port] = struct{}{}
			h.PortBindings[port] = []network.PortBinding{{HostPort: fmt.Sprint(bound)}}
		default:
			p.t.Fatalf("the option %s is not known here", words[i])
		}
	}
	p.start(c, h)
}

// start starts a container of the image, and waits until nginx runs in it.
func (p *proxy) start(c container.Config, h container.HostConfig) {
	p.t.Helper()
	made, err := p.s.Docker.ContainerCreate(p.t.Context(), client.ContainerCreateOptions{Name: "proxy-" + p.s.id, Config: &c, HostConfig: &h})
	must(p.t, err)
	p.id = made.ID
	_, err = p.s.Docker.ContainerStart(p.t.Context(), p.id, client.ContainerStartOptions{})
	must(p.t, err)
	must(p.t, Until(p.t.Context(), time.Minute, "nginx runs in the container", func() error {
		st, err := p.status()
		if err == nil && !st.Nginx.Running {
			err = fmt.Errorf("problems %+v", st.Problems)
		}
		return err
	}))
}

// exec is docker exec; it returns what the command printed.
func (p *proxy) exec(args ...string) (string, error) {
	ctx := p.t.Context()
	made, err := p.s.Docker.ExecCreate(ctx, p.id, client.ExecCreateOptions{Cmd: args, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", err
	}
	on, err := p.s.Docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer on.Close()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, on.Reader); err != nil {
		return "", err
	}
	end, err := p.s.Docker.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err == nil && end.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", end.ExitCode, errs.String())
	}
	return out.String(), err
}

// status is docker exec nagaya status --json.
func (p *proxy) status() (st report.Status, err error) {
	out, err := p.exec("nagaya", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	return st, err
}

// logs returns what the container printed to stdout and to stderr.
func (p *proxy) logs() (string, string) {
	p.t.Helper()
	r, err := p.s.Docker.ContainerLogs(p.t.Context(), p.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	must(p.t, err)
	defer r.Close()
	var out, errs bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &errs, r)
	must(p.t, err)
	return out.String(), errs.String()
}

// put writes a file below the directories that the proxy mounts.
func (p *proxy) put(name, content string) {
	p.t.Helper()
	file := p.s.Path(name)
	must(p.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(p.t, os.WriteFile(file, []byte(content), 0o644))
}

// beside runs a container that says all it wants in nginx-proxy's words.
func (p *proxy) beside(name string, c Container) {
	p.t.Helper()
	c.Name, c.Args = name+"-"+p.s.id, append([]string{"-name", name}, c.Args...)
	_, err := p.s.Run(p.t.Context(), c)
	must(p.t, err)
}

// gets waits for an answer over plain HTTP or HTTPS and returns it; the certificate
// is anybody's.
func (p *proxy) gets(url string, status int, text string, change ...func(*http.Request)) *http.Response {
	p.t.Helper()
	c := p.client()
	defer c.CloseIdleConnections()
	var got *http.Response
	until(p.t, fmt.Sprintf("%s answers %d %s", url, status, text), func() error {
		req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.at(url), nil)
		if err != nil {
			return err
		}
		for _, f := range change {
			f(req)
		}
		if got, err = c.Do(req); err != nil {
			return err
		}
		defer got.Body.Close()
		b, err := io.ReadAll(io.LimitReader(got.Body, 1<<16))
		if err == nil && (got.StatusCode != status || !strings.Contains(string(b), text)) {
			err = fmt.Errorf("%s, body %q", got.Status, b)
		}
		return err
	})
	return got
}

// at is the URL with the stage's ports instead of the usual ones.
func (p *proxy) at(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, path, _ := strings.Cut(rest, "/")
	return p.s.URL(host, "/"+path, scheme == "https")
}

func (p *proxy) client() *http.Client {
	p.t.Helper()
	c, err := p.s.Client()
	must(p.t, err)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return c
}

// refused waits until a host has no HTTPS.
func (p *proxy) refused(host string) {
	p.t.Helper()
	until(p.t, host+" has no HTTPS", func() error {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.s.HTTPSPort), &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err == nil {
			c.Close()
			return errors.New("the handshake succeeds")
		}
		if !strings.Contains(err.Error(), "unrecognized name") {
			return err
		}
		return nil
	})
}

// served is the name in the certificate that an answer came with.
func served(r *http.Response) string {
	if r.TLS == nil {
		return "none"
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

// ends stops the proxy as docker stop does, and wants a clean end.
func (p *proxy) ends() {
	p.t.Helper()
	must(p.t, p.s.Stop(p.t.Context(), p.id, 10))
	end, err := p.s.Docker.ContainerInspect(p.t.Context(), p.id, client.ContainerInspectOptions{})
	must(p.t, err)
	if st := end.Container.State; st.ExitCode != 0 || st.OOMKilled {
		p.t.Errorf("docker stop ended it with exit code %d", st.ExitCode)
	}
}

// speaking is an error if nginx has connections to port 8080 of containers, or not,
// against what is wanted (proc_net_tcp(5): the remote address, then state 1).
func (p *proxy) speaking(wanted bool) error {
	out, err := p.exec("cat", "/proc/net/tcp")
	if err == nil && strings.Contains(out, ":1F90 01 ") != wanted {
		err = errNotYet
	}
	return err
}

// names reports whether a problem with that code stands about that subject.
func names(st report.Status, code, subject string) bool {
	return slices.ContainsFunc(st.Problems, func(p problem.Problem) bool { return p.Code == code && strings.Contains(p.Subject, subject) })
}

// Somebody who ran nginx-proxy runs the image instead, by the documented command, and
// sees the same answers.
func TestImageInThePlaceOfNginxProxy(t *testing.T) {
	p := newProxy(t, Options{Hosts: []string{"own.np.test", "parent.np.test", "shared", "both.np.test", "only.np.test", "never.np.test"}})
	p.put("vhost.d/exact.np.test", "location = /vhost { return 200 \"of the host\"; }\n")
	p.put("vhost.d/exact.np.test_location", "add_header X-Snippet of-the-location always;\n")
	p.put("vhost.d/default", "location = /vhost { return 200 \"of all others\"; }\n")
	p.put("conf.d/more.conf", "server { listen 80; server_name conf.np.test; return 200 \"of conf.d\"; }\n")
	p.put("conf.d/default.conf", "what docker-gen wrote last")
	p.put("htpasswd/locked.np.test", "user:{PLAIN}secret\n")
	defer func() {
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", containerLog(p.s, p.id))
		}
	}()
	p.run(append(documentedRun(t), "-e", "DEFAULT_HOST=exact.np.test", "-e", "DHPARAM_BITS=2048", "-e", "NAGAYA_ROUTES_EXPRESSIONS=true")...)

	env := func(kv ...string) Container { return Container{Env: kv} }
	p.beside("exact", Container{Args: []string{"-listen", ":80"}, Env: []string{"VIRTUAL_HOST=exact.np.test"}})
	p.beside("many", env(`VIRTUAL_HOST=*.wild.np.test,tail.np.*,~^x[0-9]+\.np\.test$`, "VIRTUAL_PORT=8080"))
	p.beside("paths", env("VIRTUAL_HOST_MULTIPORTS={multi.np.test: {/: {port: 8080}, /svc/: {port: 8080, dest: /}}}"))
	p.beside("moved", env("VIRTUAL_HOST=moved.np.test", "VIRTUAL_PORT=8080", "VIRTUAL_PATH=/app/", "VIRTUAL_DEST=/"))
	p.beside("inner", Container{Args: []string{"-tls"}, Env: []string{"VIRTUAL_HOST=inner.np.test", "VIRTUAL_PORT=8080", "VIRTUAL_PROTO=https"}})
	p.beside("certs", env("VIRTUAL_HOST=own.np.test,sub.parent.np.test", "VIRTUAL_PORT=8080"))
	p.beside("named", env("VIRTUAL_HOST=named.np.test", "VIRTUAL_PORT=8080", "CERT_NAME=shared"))
	p.beside("both", env("VIRTUAL_HOST=both.np.test", "VIRTUAL_PORT=8080", "HTTPS_METHOD=noredirect"))
	p.beside("only", env("VIRTUAL_HOST=only.np.test", "VIRTUAL_PORT=8080", "HTTPS_METHOD=nohttp"))
	p.beside("never", env("VIRTUAL_HOST=never.np.test", "VIRTUAL_PORT=8080", "HTTPS_METHOD=nohttps"))
	p.beside("locked", env("VIRTUAL_HOST=locked.np.test", "VIRTUAL_PORT=8080"))
	p.beside("slow", Container{Args: []string{"-slow", "2s"}, Env: []string{"VIRTUAL_HOST=slow.np.test", "VIRTUAL_PORT=8080"}})

	for url, by := range map[string]string{
		"http://exact.np.test/x":         "exact answers GET exact.np.test",
		"http://deep.wild.np.test/":      "many answers",
		"http://tail.np.example/":        "many answers",
		"http://x12.np.test/":            "many answers",
		"http://multi.np.test/a":         fmt.Sprintf("paths answers GET multi.np.test:%d/a ", p.s.HTTPPort),
		"http://multi.np.test/svc/a":     fmt.Sprintf("paths answers GET multi.np.test:%d/a ", p.s.HTTPPort),
		"http://moved.np.test/app/x":     fmt.Sprintf("moved answers GET moved.np.test:%d/x ", p.s.HTTPPort),
		"http://inner.np.test/":          "inner answers",
		"http://both.np.test/":           "over http)",
		"https://both.np.test/":          "over https)",
		"http://never.np.test/":          "never answers",
		"http://exact.np.test/vhost":     "of the host",
		"http://never.np.test/vhost":     "of all others",
		"http://conf.np.test/":           "of conf.d",
		"http://unknown.np.test/default": "exact answers GET unknown.np.test", // DEFAULT_HOST
	} {
		p.gets(url, 200, by)
	}
	p.gets("http://moved.np.test/elsewhere", 404, "")
	if got := p.gets("http://exact.np.test/", 200, "").Header.Get("X-Snippet"); got != "of-the-location" {
		t.Errorf("the snippet of the location made the header %q", got)
	}
	for _, row := range []struct{ host, cert string }{
		{"own.np.test", "own.np.test"}, {"sub.parent.np.test", "parent.np.test"}, {"named.np.test", "shared"}, {"only.np.test", "only.np.test"},
	} {
		got := p.gets("https://"+row.host+"/", 200, " answers ")
		if served(got) != row.cert || got.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("%s has the certificate of %s and HSTS %q", row.host, served(got), got.Header.Get("Strict-Transport-Security"))
		}
	}
	if got := p.gets("https://both.np.test/", 200, "").Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("a site that serves both has HSTS %q", got)
	}
	if got := p.gets("http://own.np.test/x?y", 301, "").Header.Get("Location"); got != "https://own.np.test/x?y" {
		t.Errorf("plain HTTP is sent to %q", got)
	}
	p.gets("http://only.np.test/", 503, "")
	p.refused("never.np.test")
	p.refused("exact.np.test") // there is no certificate, and none that is named default
	p.gets("http://locked.np.test/", 401, "")
	p.gets("http://locked.np.test/", 200, "locked answers", func(r *http.Request) { r.SetBasicAuth("user", "secret") })
	got := p.gets("http://exact.np.test/", 200, "(from 172.", func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		r.Header.Set("X-Forwarded-Proto", "https")
	})
	if got.Request.Header.Get("X-Forwarded-Proto") != "https" {
		t.Error("the request did not lie")
	}

	var st report.Status
	until(t, "the gate has decided", func() (err error) {
		if st, err = p.status(); err == nil && st.Gate.Decision.Reason == "" {
			err = errors.New("the decision has no reason")
		}
		return err
	})
	if !names(st, "nginx-proxy-unsupported", "DHPARAM_BITS") {
		t.Errorf("DHPARAM_BITS is not named: %+v", st.Problems)
	}
	for _, one := range st.Problems {
		if one.Severity == problem.Error && strings.Contains(one.Subject, p.s.id) {
			t.Errorf("%s: %s (%s)", one.Subject, one.Text, one.Code)
		}
	}
	if st.Gate.Decision.Open {
		t.Errorf("outside EC2 the gate is open: %s", st.Gate.Decision.Reason)
	}
	for verb, want := range map[string]string{"status": " serves generation ", "routes": "moved.np.test", "render": "server_name moved.np.test;"} {
		text, err := p.exec("nagaya", verb)
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("nagaya %s lacks %q: %v\n%s", verb, want, err, text)
		}
	}

	// What goes is left in time, and what is under way is finished.
	must(t, p.s.Stop(t.Context(), "many-"+p.s.id, 5))
	p.gets("http://x12.np.test/", 503, "")
	under := make(chan error, 1)
	c := p.client()
	p.gets("http://slow.np.test/", 200, "slow answers")
	until(t, "no connection to a container is kept", func() error { return p.speaking(false) })
	go func() {
		code, body, err := get(context.WithoutCancel(t.Context()), c, p.at("http://slow.np.test/last"))
		if err == nil && (code != 200 || !strings.Contains(body, "slow answers")) {
			err = fmt.Errorf("status %d, body %q", code, body)
		}
		under <- err
	}()
	until(t, "the last request is under way", func() error { return p.speaking(true) })
	p.ends()
	if err := <-under; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	out, errs := p.logs()
	asNginxProxy := func(line string) bool {
		return strings.HasPrefix(line, "exact.np.test ") && strings.Contains(line, `] "GET /x HTTP/1.1" 200 `)
	}
	if !slices.ContainsFunc(strings.Split(out, "\n"), asNginxProxy) {
		t.Errorf("stdout has no line of the request:\n%s", out)
	}
	if !strings.Contains(errs, "agent ends") || strings.Count(errs, `msg="instance metadata`) > 1 {
		t.Errorf("stderr:\n%s", errs)
	}
}

// On a network of its own the proxy reaches what is on it and fits the filters, and what
// is published elsewhere at the gateway; whatever else is a problem with a remedy.
func TestImageOnANetworkOfItsOwn(t *testing.T) {
	p := newProxy(t, Options{})
	name := "net-" + p.s.id
	made, err := p.s.Docker.NetworkCreate(t.Context(), name, client.NetworkCreateOptions{Driver: "bridge", Labels: map[string]string{stageLabel: p.s.id}})
	must(t, err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", containerLog(p.s, p.id))
		}
		must(t, p.s.removeContainers(ctx))
		_, err := p.s.Docker.NetworkRemove(ctx, made.ID, client.NetworkRemoveOptions{})
		must(t, err)
	}()
	port, _, err := FreePorts()
	must(t, err)
	p.run("-v", "/var/run/docker.sock:/var/run/docker.sock:ro", "-p", "80:80", "--network", name, "-e", "TRUST_DOWNSTREAM_PROXY=true", "-e", "LOG_JSON=true",
		"-e", "DOCKER_CONTAINER_FILTERS=status=running,name=^/(near|apart|host|hidden)-,label="+stageLabel)
	p.beside("near", Container{Network: name, Env: []string{"VIRTUAL_HOST=near.np.test", "VIRTUAL_PORT=8080"}})
	p.beside("internal", Container{Network: name, Env: []string{"VIRTUAL_HOST=internal.np.test", "VIRTUAL_PORT=8080"}})
	p.beside("apart", Container{Ports: map[string]string{"8080/tcp": "0"}, Env: []string{"VIRTUAL_HOST=apart.np.test", "VIRTUAL_PORT=8080"}})
	p.beside("host", Container{HostNetwork: true, Args: []string{"-listen", fmt.Sprintf(":%d", port)}, Env: []string{"VIRTUAL_HOST=host.np.test", fmt.Sprintf("VIRTUAL_PORT=%d", port)}})
	p.beside("hidden", Container{Env: []string{"VIRTUAL_HOST=hidden.np.test", "VIRTUAL_PORT=8080"}})

	for _, one := range []string{"near", "apart", "host"} {
		p.gets("http://"+one+".np.test/", 200, one+" answers")
	}
	p.gets("http://near.np.test/", 200, "from 192.0.2.1, ", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") })
	p.gets("http://hidden.np.test/", 503, "")
	p.gets("http://internal.np.test/", 503, "") // it is reached, and does not fit the filters
	until(t, "the container that cannot be reached is named, with the remedy", func() error {
		st, err := p.status()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(st.Problems, func(x problem.Problem) bool {
			return x.Code == "container-no-address" && strings.Contains(x.Subject, "hidden-"+p.s.id)
		})
		if i < 0 || !names(st, "everybody-trusted", "TRUST_DOWNSTREAM_PROXY") {
			return fmt.Errorf("problems %+v", st.Problems)
		}
		if !strings.Contains(st.Problems[i].Hint, "docker network connect") {
			t.Errorf("the hint is %q", st.Problems[i].Hint)
		}
		return nil
	})
	p.ends()
	out, _ := p.logs()
	line, _, _ := strings.Cut(out, "\n")
	var logged struct{ Status, Request string }
	if err := json.Unmarshal([]byte(line), &logged); err != nil || logged.Status == "" || !strings.HasPrefix(logged.Request, "GET /") {
		t.Errorf("the log's first line is %q: %v", line, err)
	}
}
