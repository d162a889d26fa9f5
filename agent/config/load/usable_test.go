package load

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Of a wrong configuration the rest can be used.
func TestUsable(t *testing.T) {
	s := Sources{File: filepath.Join(t.TempDir(), "nagaya.yaml")}
	level, _ := config.Find("log-level")
	s.Flags = []config.Value{config.FromFlag(level, "debug")}
	for text, grace := range map[string]time.Duration{
		"nginx:\n  http-port: eighty\nroutes:\n  grace: 5m\n": 5 * time.Minute,
		"what: 1\nroutes:\n  grace: 5m\n":                     5 * time.Minute,
		"routes: [":                                           10 * time.Minute, // nothing of the file
	} {
		if err := os.WriteFile(s.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(s); err == nil {
			t.Errorf("%q is right", text)
		}
		if c := s.Usable(); c.Routes.Grace != grace || c.Nginx.HTTPPort != 80 || c.LogLevel != "debug" {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
