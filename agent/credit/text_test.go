package credit

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", path, d)
	}
}

func TestText(t *testing.T) {
	saving := newWorld(t, "t3.small", Standard, 300)
	saving.run(time.Hour, 0.1, 0)
	saved := saving.run(30*time.Minute, 0.1, 1)

	owing := newWorld(t, "t3.nano", Unlimited, 30)
	owing.modeKnown = false
	owed := owing.run(80*time.Minute, 1.8, 0)
	owed.Problems = append(owed.Problems, problem.Problem{
		Code: "cloudwatch-denied", Severity: problem.Error, Text: "CloudWatch refused", Hint: "Allow it.",
	})

	full := newWorld(t, "t4g.medium", Standard, 576)
	young := newWorld(t, "t3a.large", Standard, 0)
	plain := newWorld(t, "t3.small", Standard, 0)
	r := plain.reading()
	r.Type = "m5.large"

	for name, rep := range map[string]Report{
		"saving":         saved,
		"owing":          owed,
		"full":           full.run(30*time.Minute, 0.02, 0),
		"no-point-yet":   young.run(2*time.Minute, 0.2, 0),
		"not-burstable":  Resume(Memory{}).Next(r),
		"nothing-at-all": {},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, rep.Text(rep.At.Add(7*time.Second))) })
	}
}

func TestTheLastDayIsKept(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 100)
	r := w.run(30*time.Hour, 0.1, 0)
	if len(r.Hours) != 24 {
		t.Fatalf("%d hours", len(r.Hours))
	}
	for i, h := range r.Hours {
		// 18 credits more in each hour; the first of these ended 8 hours after the beginning.
		if want := min(576, 100+18*float64(i+7)); !h.BalanceKnown || math.Abs(h.Balance-want) > 20 {
			t.Errorf("%v: %+v, want a balance of about %.0f", h.At, h, want)
		}
	}
	if text := r.Text(w.at); !strings.Contains(text, "last 24 hours") {
		t.Error(text)
	}
}
