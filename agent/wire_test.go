package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/report/board"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func TestDirectoriesAreMadeAsSoonAsPossible(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		blocked := filepath.Join(dir, "blocked")
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a := &agent{board: board.New("1")}
		c := config.Config{StateDir: filepath.Join(blocked, "state"), RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "log")}
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.keepDirs(ctx, c) }()
		synctest.Wait()
		if u := a.board.Status().Upkeep; len(u) != 1 || u[0].Code != "directory-unwritable" || u[0].Hint == "" {
			t.Errorf("upkeep %+v, want one problem directory-unwritable", u)
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryPause)
		synctest.Wait()
		if u := a.board.Status().Upkeep; len(u) != 0 {
			t.Errorf("upkeep %+v after the directory could be made", u)
		}
		if _, err := os.Stat(c.StateDir); err != nil {
			t.Error(err)
		}
		stop()
	})
}

// A run directory that somebody removes does not cut the operator off until the agent is started again.
func TestTheSocketComesBack(t *testing.T) {
	a, c := newTestAgent(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.listenSocket(ctx, c, nil, answers{a: a}) }()
	for range 3 {
		answered := func() bool {
			_, err := socket.Dial(socketPath(c)).Status(ctx)
			return err == nil
		}
		for end := time.Now().Add(time.Minute); !answered(); <-time.After(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the agent does not answer")
			}
		}
		if err := os.RemoveAll(c.RunDir); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
