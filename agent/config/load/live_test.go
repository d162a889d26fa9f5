package load

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// onFile is a configuration in force that is read from a file.
func onFile(t *testing.T, s Sources, text string) (l *Live, write func(string)) {
	t.Helper()
	s.File = filepath.Join(t.TempDir(), "nagaya.yaml")
	write = func(text string) {
		t.Helper()
		if err := os.WriteFile(s.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	l, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return l, write
}

// wantProblems compares the codes and subjects.
func wantProblems(t *testing.T, l *Live, want ...string) {
	t.Helper()
	var got []string
	_, all := l.Status()
	for _, p := range all {
		got = append(got, p.Code+" "+p.Subject)
		if p.Hint == "" || p.Text == "" || strings.Contains(p.Text, "\n") {
			t.Errorf("problem %+v", p)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func TestReload(t *testing.T) {
	l, write := onFile(t, Sources{Required: true}, "log-level: warn\n")
	loaded, _ := l.Status()
	if loaded.IsZero() || time.Since(loaded) > time.Minute {
		t.Errorf("loaded at %v", loaded)
	}
	if changed, err := l.Reload(); changed || err != nil {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	write("log-level: debug\n")
	if changed, err := l.Reload(); !changed || err != nil || l.Config().LogLevel != "debug" {
		t.Errorf("another one: changed %v, %v, log-level %s", changed, err, l.Config().LogLevel)
	}
	for _, row := range []struct {
		text string
		want []string
	}{
		{"log-level: loud\nnginx:\n  http-port: 0\n", []string{"config-invalid configuration log-level", "config-invalid configuration nginx.http-port"}},
		{"log-level: [warn\n", []string{"config-invalid configuration"}},
		{"", []string{"config-invalid configuration"}},
	} {
		write(row.text)
		if row.text == "" {
			if err := os.Remove(l.sources.File); err != nil {
				t.Fatal(err)
			}
		}
		if changed, err := l.Reload(); changed || err == nil || l.Config().LogLevel != "debug" {
			t.Errorf("%q: changed %v, %v, log-level %s", row.text, changed, err, l.Config().LogLevel)
		}
		wantProblems(t, l, row.want...)
	}
	write("log-level: debug\n")
	if changed, err := l.Reload(); changed || err != nil {
		t.Errorf("what was in force all the time: changed %v, %v", changed, err)
	}
	wantProblems(t, l)
}

func TestOrderOfSources(t *testing.T) {
	level := func(value string) []config.Value {
		s, _ := config.Find("log-level")
		return []config.Value{config.FromFlag(s, value)}
	}
	for _, row := range []struct{ tag, file, env, flag, want string }{
		{want: "info"},
		{tag: "warn", want: "warn"},
		{tag: "warn", file: "log-level: error\n", want: "error"},
		{tag: "warn", file: "log-level: error\n", env: "debug", want: "debug"},
		{tag: "warn", file: "log-level: error\n", env: "debug", flag: "info", want: "info"},
	} {
		var s Sources
		if row.env != "" {
			s.Env = level(row.env)
		}
		if row.flag != "" {
			s.Flags = level(row.flag)
		}
		l, _ := onFile(t, s, row.file)
		if row.tag != "" && !l.SetTags(map[string]string{"nagaya:log-level": row.tag}) {
			t.Error("new tags are no change")
		}
		if _, err := l.Reload(); err != nil || l.Config().LogLevel != row.want {
			t.Errorf("%+v: %v, log-level %s", row, err, l.Config().LogLevel)
		}
	}
}

func TestTags(t *testing.T) {
	check := func(c config.Config) error {
		if c.Routes.Timeout == time.Second && c.Credit.Every == time.Second {
			return &config.Error{Field: "routes.timeout", Reason: "does not go with credit.every"}
		}
		return nil
	}
	l, _ := onFile(t, Sources{OtherTags: []string{"nagaya:holder"}, Check: check}, "routes:\n  grace: 5m\n")
	for _, row := range []struct {
		name     string
		tags     map[string]string
		level    string
		busy     float64
		problems []string
	}{
		{"those of others", map[string]string{"Name": "x", "nagaya:holder": "i-1"}, "info", 0.5, nil},
		{"the file wins", map[string]string{"nagaya:log-level": "debug", "nagaya:routes-grace": "1m"}, "debug", 0.5, nil},
		{
			"a bad one keeps no other from being used",
			map[string]string{"nagaya:log-level": "loud", "nagaya:what": "y", "nagaya:gate-busy": "0.25"},
			"info", 0.25,
			[]string{"tag-invalid instance tags", "tag-invalid instance tags log-level"},
		},
		{
			"those that are wrong only together are all ignored",
			map[string]string{"nagaya:log-level": "warn", "nagaya:routes-timeout": "1s", "nagaya:credit-every": "1s"},
			"info", 0.5,
			[]string{"tag-invalid instance tags routes.timeout"},
		},
		{
			"one that no tag may give",
			map[string]string{"nagaya:log-level": "warn", "nagaya:nginx-http-port": "8080"},
			"warn", 0.5,
			[]string{"tag-invalid instance tags nginx.http-port"},
		},
		{"none", nil, "info", 0.5, nil},
	} {
		l.SetTags(row.tags)
		if l.SetTags(row.tags) {
			t.Errorf("%s: the same tags are a change", row.name)
		}
		_, err := l.Reload()
		if c := l.Config(); err != nil || c.LogLevel != row.level || c.Gate.Busy != row.busy || c.Routes.Grace != 5*time.Minute || c.Nginx.HTTPPort != 80 {
			t.Errorf("%s: %v, %+v", row.name, err, c)
		}
		wantProblems(t, l, row.problems...)
		if got := len(l.TagProblems()); got != len(row.problems) {
			t.Errorf("%s: %d problems of tags", row.name, got)
		}
	}
}

func TestCheck(t *testing.T) {
	busy := errors.New("busy")
	check := func(c config.Config) error {
		switch {
		case c.LogLevel == "debug":
			return busy
		case len(c.Address.Claim) > 0:
			return &config.Error{Field: "address.claim", Reason: "is not wanted"}
		}
		return nil
	}
	l, write := onFile(t, Sources{Check: check}, "")
	write("log-level: warn\naddress:\n  claim: eipalloc-0123456789abcdef0\n")
	if _, err := l.Reload(); err == nil || !strings.Contains(err.Error(), "nagaya.yaml:3: address.claim: is not wanted") {
		t.Errorf("error %v; want its place", err)
	}
	write("log-level: debug\n")
	if _, err := l.Reload(); !errors.Is(err, busy) {
		t.Errorf("error %v, want %v", err, busy)
	}
}
