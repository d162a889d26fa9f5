package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// configured is an agent with a configuration file, of which no flow runs.
type configured struct {
	*agent
	t        *testing.T
	restarts int
}

func withFile(t *testing.T, text string) *configured {
	t.Helper()
	a, _ := newTestAgent(t)
	c := &configured{agent: a, t: t}
	c.write(text)
	c.read()
	a.restart = func() { c.restarts++ }
	return c
}

func (c *configured) write(text string) {
	c.t.Helper()
	if err := os.WriteFile(c.o.Config.File, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// read reads the configuration for the first time.
func (c *configured) read() {
	c.t.Helper()
	var err error
	if c.config, err = startConfig(c.o); err != nil {
		c.t.Fatal(err)
	}
}

// tagged is what instance metadata says.
func (c *configured) tagged(tags map[string]string) {
	c.sawIdentity(identity.Identity{Instance: identity.Instance{Known: true, Tags: tags, TagsKnown: tags != nil}})
}

// wantProblems compares the codes and subjects on the board.
func (c *configured) wantProblems(want ...string) {
	c.t.Helper()
	var got []string
	for _, p := range c.board.Status().Problems {
		got = append(got, p.Code+" "+p.Subject)
		if p.Hint == "" || strings.Contains(p.Text, "\n") {
			c.t.Errorf("problem %+v", p)
		}
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("problems %q, want %q", got, want)
	}
}

func TestReconfigure(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	c.reconfigure()
	if c.restarts != 0 {
		t.Error("a configuration that is the same began a new flow")
	}

	c.write("log-level: debug\n")
	c.reconfigure()
	if c.restarts != 1 || c.config.Config().LogLevel != "debug" {
		t.Errorf("%d restarts, log-level %s", c.restarts, c.config.Config().LogLevel)
	}
	c.wantProblems()

	// What is wrong changes nothing, and is said until it is right.
	c.write("log-level: loud\nnginx:\n  http-port: 0\n")
	c.reconfigure()
	c.reconfigure()
	if c.restarts != 1 || c.config.Config().LogLevel != "debug" {
		t.Errorf("%d restarts, log-level %s", c.restarts, c.config.Config().LogLevel)
	}
	c.wantProblems("config-invalid configuration log-level", "config-invalid configuration nginx.http-port")
	c.write("log-level: debug\n")
	c.reconfigure()
	c.wantProblems()
	if c.restarts != 1 {
		t.Error("the configuration that was in force all the time began a new flow")
	}

	// Without the file the defaults hold.
	if err := os.Remove(c.o.Config.File); err != nil {
		t.Fatal(err)
	}
	c.reconfigure()
	if c.restarts != 2 || c.config.Config().LogLevel != "info" {
		t.Errorf("%d restarts, log-level %s", c.restarts, c.config.Config().LogLevel)
	}
}

func TestNotYAML(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	c.write("log-level: [warn\n")
	c.reconfigure()
	c.wantProblems("config-invalid configuration")
	if c.config.Config().LogLevel != "warn" {
		t.Errorf("log-level %s", c.config.Config().LogLevel)
	}
}

func TestInstanceTags(t *testing.T) {
	c := withFile(t, "routes:\n  grace: 5m\n")
	c.tagged(nil) // metadata shows no tags
	c.tagged(map[string]string{})
	c.tagged(map[string]string{"Name": "x"})
	c.tagged(map[string]string{"Name": "x", address.TagKey: "i-1 1767355200 leaving"})
	c.wantProblems()
	if c.restarts != 0 {
		t.Error("tags that say nothing began a new flow")
	}
	c.tagged(map[string]string{"nagaya:log-level": "debug", "nagaya:routes-grace": "1m"})
	if got := c.config.Config(); c.restarts != 1 || got.LogLevel != "debug" || got.Routes.Grace != 5*time.Minute {
		t.Errorf("%d restarts, log-level %s, grace %s; want the tag, and the file before the tag", c.restarts, got.LogLevel, got.Routes.Grace)
	}
	c.wantProblems()

	// A bad one must not keep the others, or the rest, from holding.
	c.tagged(map[string]string{"nagaya:log-level": "loud", "nagaya:nginx-max-draining": "x", "nagaya:what": "y", "nagaya:gate-busy": "0.25"})
	if got := c.config.Config(); c.restarts != 2 || got.LogLevel != "info" || got.Gate.Busy != 0.25 || got.Routes.Grace != 5*time.Minute {
		t.Errorf("%d restarts, log-level %s, busy %g, grace %s", c.restarts, got.LogLevel, got.Gate.Busy, got.Routes.Grace)
	}
	c.wantProblems("tag-invalid instance tags", "tag-invalid instance tags log-level", "tag-invalid instance tags nginx.max-draining")

	// What no single setting can judge leaves out all tags.
	c.tagged(map[string]string{"nagaya:log-level": "warn", "nagaya:gate-windows": "22:00-06:00 Mars/Base"})
	if got := c.config.Config(); got.LogLevel != "info" || len(got.Gate.Windows) != 0 {
		t.Errorf("log-level %s, windows %q", got.LogLevel, got.Gate.Windows)
	}
	c.wantProblems("tag-invalid instance tags gate.windows")

	// Who may tag the instance cannot choose the nginx that is run.
	c.tagged(map[string]string{"nagaya:nginx-binary": "/tmp/evil", "nagaya:docker-host": "tcp://203.0.113.9:2375"})
	if got := c.config.Config(); got.Nginx.Binary != "nginx" || got.Docker.Host != "unix:///var/run/docker.sock" {
		t.Errorf("nginx %s, Docker at %s; want that tags cannot set them", got.Nginx.Binary, got.Docker.Host)
	}
	c.wantProblems("tag-invalid instance tags docker.host", "tag-invalid instance tags nginx.binary")

	// What is known stays known while metadata shows none for a moment.
	c.tagged(map[string]string{"nagaya:log-level": "warn"})
	c.tagged(nil)
	if got := c.config.Config().LogLevel; got != "warn" {
		t.Errorf("log-level %s, want that of the tag", got)
	}
	c.wantProblems()
}

func TestMistakesInFileAndTags(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	c.tagged(map[string]string{"nagaya:log-level": "loud"})
	c.write("log-level: louder\n")
	if err := c.reconfigure(); err == nil || !strings.Contains(err.Error(), "louder") {
		t.Errorf("error %v", err)
	}
	if c.config.Config().LogLevel != "warn" {
		t.Errorf("log-level %s", c.config.Config().LogLevel)
	}
	c.write("log-level: error\n")
	if err := c.reconfigure(); err != nil {
		t.Error(err)
	}
	if c.config.Config().LogLevel != "error" {
		t.Errorf("log-level %s", c.config.Config().LogLevel)
	}
	c.wantProblems("tag-invalid instance tags log-level")
}

// SIGHUP reads the configuration again although no change was noticed, and tells
// systemd about it.
func TestReload(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	reload := make(chan os.Signal)
	c.o.Reload = reload
	heard := notified(t, c.agent)
	taken := make(chan struct{}, 1)
	c.restart = func() { taken <- struct{}{} }
	// The directory is not watched: only the signal can be what did it.
	c.o.Config.File = filepath.Join(t.TempDir(), "later", "nagaya.yaml")
	c.read()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.watchConfig(ctx) }()
	if err := os.MkdirAll(filepath.Dir(c.o.Config.File), 0o700); err != nil {
		t.Fatal(err)
	}
	c.write("log-level: debug\n")
	reload <- os.Interrupt
	select {
	case <-taken:
	case <-time.After(10 * time.Second):
		t.Fatal("the signal had no effect")
	}
	for _, want := range []string{"RELOADING=1", "READY=1"} {
		if got := heard(); !strings.Contains(got, want) {
			t.Errorf("systemd was told %q, want %s", got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A change of the file is noticed without a signal.
func TestFileIsWatched(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	taken := make(chan struct{}, 1)
	c.restart = func() {
		select {
		case taken <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.watchConfig(ctx) }()
	// The watch begins at its own time: the file is changed until it was seen.
	for late, n := time.After(10*time.Second), 0; ; n++ {
		c.write("log-level: debug\nroutes:\n  grace: " + (time.Duration(n+1) * time.Second).String() + "\n")
		select {
		case <-taken:
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			return
		case <-late:
			t.Fatal("the change was not noticed")
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// notified lets the agent speak to a systemd of the test, and returns what hears it.
func notified(t *testing.T, a *agent) (heard func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if a.o.Notify, err = systemd.NewNotifier(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		t.Helper()
		b := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestWrongConfigurationAtTheStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nagaya.yaml")
	if err := os.WriteFile(file, []byte("state-dir: here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Options{Config: load.Sources{File: file}})
	if err == nil || !strings.Contains(err.Error(), file+":1: state-dir") || !strings.Contains(err.Error(), ErrConfig.Error()) {
		t.Errorf("got %v", err)
	}
}

// What only the gate understands is wrong configuration all the same, and named with its place.
func TestWrongWindowsAreNamed(t *testing.T) {
	c := withFile(t, "log-level: info\n")
	c.write("gate:\n  windows: [22:00-06:00 Asia/Nowhere]\n")
	if err := c.reconfigure(); err == nil || !strings.Contains(err.Error(), `:2: gate.windows: the time zone "Asia/Nowhere" is not known; write UTC`) {
		t.Errorf("error %v", err)
	}
	c.write("gate:\n  windows: [by night]\n")
	if err := c.reconfigure(); err == nil || !strings.Contains(err.Error(), `:2: gate.windows: "by night" is not a window`) {
		t.Errorf("error %v", err)
	}
	c.write("gate:\n  windows: [22:00-06:00 Asia/Tokyo, Sat-Sun 00:00-24:00]\n")
	if err := c.reconfigure(); err != nil || len(c.config.Config().Gate.Windows) != 2 {
		t.Errorf("%v, %v", c.config.Config().Gate.Windows, err)
	}
}
