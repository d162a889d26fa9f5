package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// asCommand is the variable that has the test's program be nagaya; its value is the time within
// which a second signal is one with the first.
const asCommand = "TEST_AS_NAGAYA"

// TestMain takes the settings of whoever runs the tests out of the environment.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "NAGAYA_") {
			_ = os.Unsetenv(name)
		}
	}
	if moment, err := time.ParseDuration(os.Getenv(asCommand)); err == nil {
		os.Exit(command(moment))
	}
	os.Exit(m.Run())
}

// ran is what a command line came to.
type ran struct {
	code      int
	out, errs string
}

func nagaya(t *testing.T, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{}, args...), &out, &errs)
	return ran{code, out.String(), errs.String()}
}

// Values that cannot be read are told in plain words, not in those of Go's parser.
func TestWrongValues(t *testing.T) {
	for text, args := range map[string][]string{
		`--need: "x" is not a number`:                                   {"gate", "run", "--need", "x", "--", "true"},
		`--every: "x" is not a time such as 90s, 30m or 8h`:             {"top", "--every", "x"},
		`"y" is neither a duration such as 90m nor a factor such as 3x`: {"gate", "run", "--kill-after", "y", "--", "true"},
	} {
		if got := nagaya(t, args...); got.code != exitUsage || !strings.Contains(got.errs, text) {
			t.Errorf("%q: exit %d, %s", args, got.code, got.errs)
		}
	}
}

// pretended is an agent that answers what the test wants.
type pretended struct {
	mu       sync.Mutex
	status   report.Status
	refusal  error
	requests []address.Request
	leaves   []bool
	renewed  []string
	reload   error
	job      func(gate.Asked) (gate.Entry, error)
	heard    []gate.Asked
}

func (p *pretended) Status() report.Status { return p.status }

func (p *pretended) Address(_ context.Context, r address.Request) error {
	p.requests = append(p.requests, r)
	return p.refusal
}

func (p *pretended) Reload() error { return p.reload }

func (p *pretended) Renew(_ context.Context, host string) error {
	p.renewed = append(p.renewed, host)
	return p.refusal
}

func (p *pretended) Leave(_ context.Context, yes bool) error {
	p.leaves = append(p.leaves, yes)
	return p.refusal
}

func (p *pretended) Job(ctx context.Context, a gate.Asked) (gate.Entry, error) {
	p.mu.Lock()
	p.heard = append(p.heard, a)
	p.mu.Unlock()
	if p.job == nil {
		return gate.Entry{Job: a.Job, Phase: gate.Admitted, Reason: "there is room"}, nil
	}
	e, err := p.job(a)
	if err == nil && e.Phase == gate.Waiting {
		<-ctx.Done()
	}
	return e, err
}

// said lists the states that were reported, in order.
func (p *pretended) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, a := range p.heard {
		all = append(all, string(a.State))
	}
	return strings.Join(all, " ")
}

// answers lets an agent answer until the test ends, and returns its run-dir.
func answers(t *testing.T, p socket.Agent) string {
	t.Helper()
	dir := t.TempDir()
	l, err := socket.Listen(filepath.Join(dir, "nagaya.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- socket.Serve(ctx, l, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got); -update accepts it:\n%s", name, d)
	}
}

func TestHelp(t *testing.T) {
	got := nagaya(t, "--help")
	if got.code != exitOK || got.errs != "" {
		t.Errorf("exit %d, stderr %q", got.code, got.errs)
	}
	golden(t, "help.txt", got.out)
	if bare := nagaya(t); bare.code != exitOK || bare.out != got.out {
		t.Errorf("without a verb: exit %d and another text than --help", bare.code)
	}
}

// everyVerb calls visit with the words of each verb.
func everyVerb(t *testing.T, visit func(words []string, cmd *cobra.Command)) {
	t.Helper()
	c := &cli{}
	root := c.root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	var walk func(words []string, cmd *cobra.Command)
	walk = func(words []string, cmd *cobra.Command) {
		if len(words) > 0 {
			visit(words, cmd)
		}
		for _, sub := range cmd.Commands() {
			walk(append(slices.Clone(words), sub.Name()), sub)
		}
	}
	walk(nil, root)
}

func TestEveryVerbHasHelp(t *testing.T) {
	n := 0
	everyVerb(t, func(words []string, cmd *cobra.Command) {
		n++
		got := nagaya(t, append(slices.Clone(words), "--help")...)
		if got.code != exitOK || got.errs != "" || !strings.Contains(got.out, "Usage:\n  nagaya "+strings.Join(words, " ")) {
			t.Errorf("%v --help: exit %d, stderr %q:\n%s", words, got.code, got.errs, got.out)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%v: short help %q", words, cmd.Short)
		}
		if same := nagaya(t, append([]string{"help"}, words...)...); same.code != exitOK || same.out != got.out {
			t.Errorf("'help %s' says another thing than '--help'", strings.Join(words, " "))
		}
	})
	if n < 15 {
		t.Errorf("only %d verbs were found", n)
	}
}

func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nagaya.yaml")
	if err := os.WriteFile(file, []byte("log-level: loud\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args string
		say  string
	}{
		{"stauts", `unknown command "stauts"`},
		{"stauts", "\tstatus\n"}, // what was meant
		{"stauts", "hint: see --help"},
		{"--bogus", "unknown flag: --bogus"},
		{"status --bogus", "hint: see --help"},
		{"status --jsn", "unknown flag: --jsn"},
		{"status now", `unexpected argument "now"`},
		{"gate bogus", `"bogus"`},
		{"address bogus", `"bogus"`},
		{"address claim a b", `unexpected argument "b"`},
		{"leave now", `unexpected argument "now"`},
		{"completion bogus", `"bogus"`},
		{"help bogus", `"bogus"`},
		{"version 2", `unexpected argument "2"`},
		{"man", "directory"},
		{"man a b", "directory"},
		{"gate wait", "--name is missing"},
		{"gate wait --name x --need many", "many"},
		{"gate wait --name x --deadline soon", `--deadline "soon"`},
		{"gate wait --name x --deadline 06:00 --within 1h", "two ways to say the same"},
		{"gate wait --name x --within -1h", "lies in the past"},
		{"gate wait --name x --deadline 2020-01-01T06:00:00Z", "--deadline 2020-01-01T06:00:00Z lies in the past: it is "},
		{"routes --traffic --explain", "--traffic and --explain show two things; give one"},
		{"routes --since 1h", "--since is for --traffic"},
		{"routes --traffic --since=", `"" is no time`},
		{"credits --since=", `"" is no time`},
		{"gate run", "an argument is missing: the command to run, after --"},
		{"gate run --deadline soon -- true", `--deadline "soon"`},
		{"agent --log-level", "needs an argument"},
		{"agent --config " + file, "nagaya.yaml:1: log-level"},
		{"agent --config " + filepath.Join(dir, "absent.yaml"), "absent.yaml"},
		{"agent --nginx-http-port x --config " + file, "flag --nginx-http-port"},
		{"check --config " + file, "nagaya.yaml:1: log-level"},
		{"render --config " + file, "nagaya.yaml:1: log-level"},
		{"config --config " + file, "nagaya.yaml:1: log-level"},
		{"doctor now", `unexpected argument "now"`},
	} {
		got := nagaya(t, strings.Fields(row.args)...)
		if got.code != exitUsage || !strings.HasPrefix(got.errs, "nagaya: ") || !strings.Contains(got.errs, row.say) || got.out != "" {
			t.Errorf("nagaya %s: exit %d, want 2 and %q\nstdout %q\nstderr %s", row.args, got.code, row.say, got.out, got.errs)
		}
	}
	t.Setenv("NAGAYA_LOGLEVEL", "debug")
	if got := nagaya(t, "agent"); got.code != exitUsage || !strings.Contains(got.errs, "NAGAYA_LOGLEVEL") {
		t.Errorf("an unknown variable: exit %d, %s", got.code, got.errs)
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"version", "--version"} {
		if got := nagaya(t, args); got.code != exitOK || !strings.HasPrefix(got.out, "nagaya ") || strings.Count(got.out, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", args, got.code, got.out)
		}
	}
}

// Taken out of their comments, the defaults that 'config --default' prints are a
// configuration, and the default one.
func TestDefaultFileUncommented(t *testing.T) {
	got := nagaya(t, "config", "--default")
	if got.code != exitOK {
		t.Fatalf("exit %d, %s", got.code, got.errs)
	}
	if values, err := config.ParseYAML("default", []byte(got.out)); err != nil || len(values) != 0 {
		t.Errorf("as printed it sets %d values, %v; want none", len(values), err)
	}
	plain := regexp.MustCompile(`(?m)^(\s*)#(\S)`).ReplaceAllString(got.out, "$1$2")
	values, err := config.ParseYAML("default", []byte(plain))
	if err != nil {
		t.Fatalf("%v in\n%s", err, plain)
	}
	r, err := config.Resolve(values)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings {
		if r.From[s.Path] == "" {
			t.Errorf("%s is not in it", s.Path)
		}
		if got, want := fmt.Sprint(s.Get(r.Config)), fmt.Sprint(s.Get(config.Default())); got != want {
			t.Errorf("%s is %s in it, want %s", s.Path, got, want)
		}
		if !strings.Contains(plain, s.Doc) {
			t.Errorf("what %s means is not in it", s.Path)
		}
	}
}

func TestConfigNamesOrigins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nagaya.yaml")
	if err := os.WriteFile(file, []byte("log-level: warn\nnginx:\n  http-port: 8080\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NAGAYA_NGINX_HTTP_PORT", "8081")
	t.Setenv("NAGAYA_ADDRESS_READY", "a.test, b.test")
	t.Setenv("NAGAYA_CONFIG", file)
	got := nagaya(t, "config")
	if got.code != exitOK {
		t.Fatalf("exit %d, %s", got.code, got.errs)
	}
	lines := map[string][]string{}
	for line := range strings.Lines(got.out) {
		if f := strings.Fields(line); len(f) > 0 {
			lines[f[0]] = f[1:]
		}
	}
	if len(lines) != len(config.Settings) {
		t.Errorf("%d settings are shown, want %d", len(lines), len(config.Settings))
	}
	for path, want := range map[string]string{
		"log-level":       "warn " + file + ":1",
		"nginx.http-port": "8081 environment NAGAYA_NGINX_HTTP_PORT",
		"address.ready":   "a.test, b.test environment NAGAYA_ADDRESS_READY",
		"address.claim":   `"" default`,
		"gate.reserve":    "auto default",
	} {
		if got := strings.Join(lines[path], " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestWithoutAnAgent(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"status", "status --json", "routes", "certs", "certs renew a.test", "credits", "gate", "gate check", "address", "address claim", "address release --now", "leave", "leave --undo", "reload"} {
		got := nagaya(t, append(strings.Fields(args), "--run-dir", dir)...)
		if got.code != exitNoAgent || !strings.Contains(got.errs, "hint: is it running?") || !strings.Contains(got.errs, dir) || got.out != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", args, got.code, got.out, got.errs)
		}
	}
	c := &cli{runDir: dir}
	err := c.explain(fmt.Errorf("%w: %w", socket.ErrNoAgent, fs.ErrPermission))
	if exitCode(err) != exitNoAgent || !strings.Contains(err.Error(), "root") {
		t.Errorf("a socket that may not be opened: %v", err)
	}
	if err := errors.New("other"); c.explain(err) != err {
		t.Error("another error was changed")
	}
}

// Whoever asks in a shell with a wrong environment learns that, and not only that
// nobody answers; and the rest of the environment counts.
func TestWithoutAnAgentInAWrongEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("NAGAYA_RUN_DIRECTORY", "/elsewhere")
	t.Setenv("NAGAYA_RUN_DIR", dir)
	for _, args := range []string{"status", "address", "address claim", "gate check", "leave"} {
		got := nagaya(t, strings.Fields(args)...)
		if got.code != exitNoAgent || !strings.Contains(got.errs, "NAGAYA_RUN_DIRECTORY") || !strings.Contains(got.errs, "is not a setting") ||
			!strings.Contains(got.errs, dir) || !strings.Contains(got.errs, "hint: ") {
			t.Errorf("%s: exit %d, %s", args, got.code, got.errs)
		}
	}
	if got := nagaya(t, "status", "--run-dir", dir); got.code != exitNoAgent || strings.Contains(got.errs, "NAGAYA_RUN_DIRECTORY") {
		t.Errorf("with --run-dir, which needs no environment: exit %d, %s", got.code, got.errs)
	}
}

func TestViews(t *testing.T) {
	now := time.Now()
	p := &pretended{status: report.Status{Version: "9.9.9", StartedAt: now, At: now}}
	p.status.Gate.Decision = gate.Decision{At: now, Since: now, Reason: "because"}
	p.status.Address = address.Report{ClaimStatus: address.ClaimStatus{Claim: "eipalloc-0123456789abcdef0", Policy: address.Wait, Known: true}}
	dir := answers(t, p)
	for args, want := range map[string]string{
		"status":  "nagaya 9.9.9 on",
		"routes":  "HOST",
		"credits": "not known",
		"gate":    "because",
		"address": "eipalloc-0123456789abcdef0",
		"certs":   "nothing is ordered: certs.acme.email is not set",
	} {
		got := nagaya(t, args, "--run-dir", dir)
		if got.code != exitOK || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit %d, %s\nwant %q in\n%s", args, got.code, got.errs, want, got.out)
		}
		got = nagaya(t, args, "--json", "--run-dir", dir)
		var v map[string]any
		if err := json.Unmarshal([]byte(got.out), &v); err != nil || len(v) == 0 || got.code != exitOK {
			t.Errorf("%s --json: exit %d, %v\n%s", args, got.code, err, got.out)
		}
	}
	// The run directory is found in the configuration too.
	file := filepath.Join(t.TempDir(), "nagaya.yaml")
	if err := os.WriteFile(file, []byte("run-dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := nagaya(t, "status", "--config", file); got.code != exitOK {
		t.Errorf("exit %d, %s", got.code, got.errs)
	}
}

func TestRequestsForTheAddress(t *testing.T) {
	p := &pretended{}
	p.status.Address = address.NewReport([]address.ClaimReport{
		{ClaimStatus: address.ClaimStatus{Claim: "eipalloc-0123456789abcdef0", Policy: address.Wait}}, {ClaimStatus: address.ClaimStatus{Claim: "203.0.113.7"}},
	})
	dir := answers(t, p)
	const claim = "eipalloc-0123456789abcdef0"
	for args, want := range map[string]address.Request{
		"address claim":                  {},
		"address claim " + claim:         {Claim: claim},
		"address release":                {Release: true},
		"address release --now":          {Release: true, Now: true},
		"address release --now " + claim: {Release: true, Now: true, Claim: claim},
	} {
		p.requests, p.refusal = nil, nil
		got := nagaya(t, append(strings.Fields(args), "--run-dir", dir)...)
		if got.code != exitOK || !strings.Contains(got.out, claim+" ") || !slices.Equal(p.requests, []address.Request{want}) {
			t.Errorf("%s: exit %d, requests %+v, %s%s", args, got.code, p.requests, got.out, got.errs)
		}
		var r address.Report
		got = nagaya(t, append(strings.Fields(args), "--json", "--run-dir", dir)...)
		if err := json.Unmarshal([]byte(got.out), &r); err != nil || len(r.Claims) != 2 || got.code != exitOK {
			t.Errorf("%s --json: exit %d, %v\n%s", args, got.code, err, got.out)
		}
		p.refusal = errors.New("it is held by a NAT gateway")
		got = nagaya(t, append(strings.Fields(args), "--run-dir", dir)...)
		if got.code != exitNo || !strings.Contains(got.errs, "NAT gateway") || got.out != "" {
			t.Errorf("%s, refused: exit %d, %s%s", args, got.code, got.out, got.errs)
		}
	}
	got := nagaya(t, "__complete", "address", "release", "--run-dir", dir, "")
	if got.code != exitOK || !strings.Contains(got.out, claim+"\n203.0.113.7\n") {
		t.Errorf("completion: exit %d, %s", got.code, got.out)
	}
}

func TestReload(t *testing.T) {
	p := &pretended{}
	dir := answers(t, p)
	if got := nagaya(t, "reload", "--run-dir", dir); got.code != exitOK || !strings.HasPrefix(got.out, "the configuration is in force; your own files for nginx are read") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.errs)
	}
	p.reload = errors.New("/etc/nagaya/nagaya.yaml:3: log-level: no such word")
	if got := nagaya(t, "reload", "--run-dir", dir); got.code != exitUsage || got.out != "" || !strings.Contains(got.errs, "yaml:3: log-level") || !strings.Contains(got.errs, "stays in force") {
		t.Errorf("a wrong one: exit %d, %s%s", got.code, got.out, got.errs)
	}
}

func TestLeave(t *testing.T) {
	p := &pretended{}
	dir := answers(t, p)
	for args, want := range map[string]bool{"leave": true, "leave --undo": false} {
		p.leaves, p.refusal = nil, nil
		got := nagaya(t, append(strings.Fields(args), "--run-dir", dir)...)
		if got.code != exitOK || !strings.HasPrefix(got.out, "this instance ") || !slices.Equal(p.leaves, []bool{want}) {
			t.Errorf("%s: exit %d, said %v, %s%s", args, got.code, p.leaves, got.out, got.errs)
		}
		p.refusal = errors.New("it could not be kept")
		if got := nagaya(t, append(strings.Fields(args), "--run-dir", dir)...); got.code != exitNo || !strings.Contains(got.errs, "kept") {
			t.Errorf("%s: exit %d, %s", args, got.code, got.errs)
		}
	}
}

// What is wrong with this host is no matter of this test: that it is told is.
func TestDoctorVerb(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	args := []string{"doctor", "--imds=false", "--run-dir", dir, "--state-dir", dir, "--log-dir", dir, "--docker-host", "unix://" + dir + "/none.sock", "--ecs-agent-url", ""}
	got := nagaya(t, args...)
	if got.code != exitNo || !strings.Contains(got.out, "FAIL  docker ") || !strings.Contains(got.out, " failed\n") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.errs)
	}
	got = nagaya(t, append(args, "--json")...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.code != exitNo || r.Count(doctor.Fail) == 0 {
		t.Errorf("--json: exit %d, %v, %s", got.code, err, got.out)
	}
	// A wrong configuration is named, and all else is examined.
	file := filepath.Join(dir, "nagaya.yaml")
	if err := os.WriteFile(file, []byte("nginx:\n  http-port: eighty\ncerts:\n  dir: "+dir+"/none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = nagaya(t, append(args, "--config", file)...)
	for _, want := range []string{"FAIL  configuration  " + file + `:2: nginx.http-port: "eighty" is not a whole number`, "FAIL  docker ", dir + "/none"} {
		if got.code != exitUsage || got.errs != "" || !strings.Contains(got.out, want) {
			t.Errorf("a wrong configuration: exit %d, without %q: %s%s", got.code, want, got.out, got.errs)
		}
	}
}

func TestManPages(t *testing.T) {
	read := func() map[string]string {
		dir := filepath.Join(t.TempDir(), "man1")
		if got := nagaya(t, "man", dir); got.code != exitOK || got.out+got.errs != "" {
			t.Fatalf("exit %d, %s%s", got.code, got.out, got.errs)
		}
		pages := map[string]string{}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			pages[filepath.Base(f)] = string(b)
		}
		return pages
	}
	first := read()
	if d := cmp.Diff(first, read()); d != "" {
		t.Errorf("the same program made other pages:\n%s", d)
	}
	for _, name := range []string{"nagaya.1", "nagaya-gate-run.1", "nagaya-agent.1"} {
		if !strings.Contains(first[name], ".TH") {
			t.Errorf("there is no %s; there are %d pages", name, len(first))
		}
	}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		for name, text := range first {
			if strings.Contains(text, home) {
				t.Errorf("%s names the home of whoever made it", name)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := nagaya(t, "completion", shell); got.code != exitOK || !strings.Contains(got.out, "nagaya") {
			t.Errorf("%s: exit %d, %s", shell, got.code, got.errs)
		}
	}
	got := nagaya(t, "__complete", "agent", "--address-policy", "")
	if got.code != exitOK || !strings.Contains(got.out, "takeover\n") {
		t.Errorf("words of a setting: exit %d, %s", got.code, got.out)
	}
	if got := nagaya(t, "__complete", "st"); !strings.Contains(got.out, "status") {
		t.Errorf("a verb: %s", got.out)
	}
}
