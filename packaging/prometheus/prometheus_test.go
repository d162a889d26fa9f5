// Package prometheus holds the tests of the alerts for Prometheus and of the dashboard for Grafana.
package prometheus

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

const (
	rules  = "nagaya.rules.yml"
	cases  = "testdata/rules_test.yml"
	scrape = "../../agent/report/metrics/testdata/sample.prom" // what an agent answers
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// promtool is Debian's.
func promtool(t *testing.T, in []byte, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.NeedFile(t, ".ci/debian-tools", ".cache/debian-tools/usr/bin/promtool"), args...)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("FAILED")) {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolTakesTheRules(t *testing.T) { promtool(t, nil, "check", "rules", rules) }

func TestEachAlertFiresWhenItShould(t *testing.T) { promtool(t, nil, "test", "rules", cases) }

func TestMetricsAreNamedAsPrometheusWants(t *testing.T) {
	promtool(t, read(t, scrape), "check", "metrics")
}

// alerts returns the expressions by the names of the alerts.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.Unmarshal(read(t, rules), &file); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Annotations.Summary == "" || r.Annotations.Description == "" {
				t.Errorf("%s does not say what it means and what to do", r.Alert)
			}
			all[r.Alert] = r.Expr
		}
	}
	return all
}

func TestEachAlertHasACase(t *testing.T) {
	tested := string(read(t, cases))
	for name := range alerts(t) {
		if !strings.Contains(tested, `alertname="`+name+`"`) {
			t.Errorf("no case in %s has %s fire", cases, name)
		}
	}
}

// expressions returns those of the dashboard by the titles of the panels.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	var board struct {
		Panels []struct {
			ID                       int
			Type, Title, Description string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "../grafana/nagaya.json"), &board); err != nil {
		t.Fatal(err)
	}
	all, ids := map[string][]string{}, []int{}
	for _, p := range board.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %q has no description or no expression", p.Title)
		}
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], target.Expr)
		}
	}
	return all
}

var (
	metric = regexp.MustCompile(`\bnagaya_[a-z_]+\b`)
	// variable is one of Grafana's.
	variable = regexp.MustCompile(`\$[a-z]+`)
)

// What alerts and dashboard ask for is there, and Prometheus can read how.
func TestExpressionsNameMetricsThatExist(t *testing.T) {
	asked := expressions(t)
	if len(asked) < 10 {
		t.Fatalf("only %d panels ask for something", len(asked))
	}
	for name, expr := range alerts(t) {
		asked[name] = []string{expr}
	}
	there := string(read(t, scrape))
	recorded := &strings.Builder{}
	recorded.WriteString("groups:\n- name: all\n  rules:\n")
	for where, exprs := range asked {
		for _, expr := range exprs {
			for _, name := range metric.FindAllString(expr, -1) {
				of, isBucket := strings.CutSuffix(name, "_bucket")
				if !strings.Contains(there, "# TYPE "+name+" ") && (!isBucket || !strings.Contains(there, "# TYPE "+of+" histogram\n")) {
					t.Errorf("%s asks for %s, which no agent has", where, name)
				}
			}
			text, err := json.Marshal(variable.ReplaceAllString(strings.ReplaceAll(expr, "$__rate_interval", "5m"), ".*"))
			if err != nil {
				t.Fatal(err)
			}
			recorded.WriteString("  - {record: x, expr: " + string(text) + ", labels: {of: " + string(text) + "}}\n")
		}
	}
	file := t.TempDir() + "/all.yml"
	if err := os.WriteFile(file, []byte(recorded.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", "--lint=none", file)
}
