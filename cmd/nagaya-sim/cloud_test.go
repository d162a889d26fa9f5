package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

func TestCloudServesUntilItEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sim.env")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		c := root()
		c.SetArgs([]string{"cloud", "--env-file", file, "--local-ipv4", "10.9.8.7"})
		c.SetOut(writer)
		done <- c.ExecuteContext(ctx)
		writer.Close()
	}()
	var out bytes.Buffer
	for !strings.Contains(out.String(), "ready") {
		if _, err := io.CopyN(&out, reader, 1); err != nil {
			t.Fatalf("%v after\n%s", errors.Join(err, <-done), &out)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	env, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	control := regexp.MustCompile(`(?m)^export SIM_CONTROL='(.*)'$`).FindSubmatch(env)
	if control == nil {
		t.Fatalf("no control endpoint in\n%s", env)
	}
	// Whoever reads it can run nagaya in the same shell.
	lines := strings.Split(strings.NewReplacer("export ", "", "'", "").Replace(string(env)), "\n")
	if values, err := config.FromEnv(lines); err != nil || len(values) != 1 || values[0].Setting.Path != "ecs.agent-url" {
		t.Errorf("nagaya reads %+v of it: %v", values, err)
	}
	answer, err := http.Get(string(control[1]) + "/state")
	if err != nil {
		t.Fatal(err)
	}
	state, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !bytes.Contains(state, []byte(`"10.9.8.7"`)) {
		t.Errorf("%v, state\n%s", err, state)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("the end is an error: %v", err)
	}
}

func TestCloudRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"cloud", "--scenario", "none"},
		{"cloud", "--local-ipv4", "fe80::1"},
		{"cloud", "--ports", "-1"},
		{"cloud", "--metric-lag", "-1s"},
		{"cloud", "--env-file", "/nowhere/at/all"},
		{"cloud", "extra"},
	} {
		c := root()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		if c.ExecuteContext(t.Context()) == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
