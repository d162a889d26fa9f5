package nginx

import (
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	if err := (Settings{}).Validate(); err != nil {
		t.Errorf("zero settings: %v", err)
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("default settings: %v", err)
	}
	for _, row := range []struct {
		name   string
		change func(*Settings)
		want   string
	}{
		{"same ports", func(s *Settings) { s.HTTPPort = 443 }, "http_port and https_port are both 443"},
		{"relative directory", func(s *Settings) { s.StateDir = "state" }, `state_dir is "state"`},
		{"variable in a path", func(s *Settings) { s.LogDir = "/var/log/$host" }, "log_dir"},
		{"newline in a path", func(s *Settings) { s.AccessLog = "/a\nb" }, "access_log"},
		{"socket too long", func(s *Settings) { s.RunDir = "/" + strings.Repeat("a", 100) }, "107 bytes at most"},
		{"user", func(s *Settings) { s.User = "www-data; daemon off" }, "not an account name"},
		{"group alone", func(s *Settings) { s.Group = "adm" }, "group is \"adm\" but user is empty"},
		{"newline in a root", func(s *Settings) { s.DefaultRoot = "404\n" }, "default_root is"},
		{"escape", func(s *Settings) { s.LogEscape = "no" }, "log_escape is"},
		{"newline in a format", func(s *Settings) { s.LogFormat = "$host\n" }, "log_format is"},
		{"policy", func(s *Settings) { s.TLSPolicy = "mine" }, "tls_policy is"},
		{"workers", func(s *Settings) { s.WorkerProcesses = -1 }, "worker_processes is -1"},
		{"connections", func(s *Settings) { s.WorkerConnections = 3 }, "worker_connections is 3"},
		{"shutdown", func(s *Settings) { s.ShutdownTimeout = time.Millisecond }, "shutdown_timeout is 1ms"},
		{"snippet elsewhere", func(s *Settings) { s.Snippets = []Snippet{{Name: "http.d/../../x.conf"}} }, "snippet"},
		{"snippet of no section", func(s *Settings) { s.Snippets = []Snippet{{Name: "x.conf"}} }, "snippet"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := Default()
			row.change(&s)
			if err := s.Validate(); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want an error with %q", err, row.want)
			}
		})
	}
}
