package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
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
	return &agent{o: o, board: newBoard("test", time.Now()), restart: func() {}}, c
}

// The watchdog must see that a flow which is stuck does not live.
func TestAliveEndsAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newTestAgent(t)
		a.board.beat()
		time.Sleep(alivePatience)
		if a.board.isAlive() {
			t.Error("nothing was heard for long, and the flow counts as alive")
		}
	})
}
