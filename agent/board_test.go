package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/report/board"
	"github.com/nagaya-ecs/nagaya/agent/traffic/accesslog"
)

// newTestAgent is an agent that lives in a directory of the test and of which no
// flow runs.
func newTestAgent(t *testing.T) (*agent, config.Config) {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.StateDir, c.RunDir, c.LogDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "log")
	c.Nginx.SnippetDir, c.Nginx.HtpasswdDir = filepath.Join(dir, "nginx"), filepath.Join(dir, "htpasswd")
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{Config: load.Sources{File: filepath.Join(dir, "nagaya.yaml")}, Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar)}
	return &agent{o: o, board: board.New("test"), traffic: accesslog.New(), restart: func() {}, reopen: latest.New[struct{}](), relist: latest.New[struct{}](), reread: latest.New[struct{}]()}, c
}
