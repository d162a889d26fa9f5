package rehearsal

import (
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

func offers(t *testing.T, names ...string) (all []Type) {
	t.Helper()
	for _, n := range names {
		o, ok := Offer(n, 0)
		if !ok {
			t.Fatal(n)
		}
		all = append(all, o)
	}
	return all
}

// hours is a trace that is busy in some hours of the day, and idle else.
func hours(days, from, to int, busy float64) Trace {
	tr := steady(0.5, days)
	for i := range tr.Values {
		if h := i % 288 / 12; h >= from && h < to {
			tr.Values[i] = busy
		}
	}
	return tr
}

func TestSettle(t *testing.T) {
	s := spec(t, "t3.micro")
	day := Tenant{Name: "day", Spec: s, Trace: hours(5, 8, 16, 16)}
	night := Tenant{Name: "night", Spec: s, Trace: hours(5, 20, 24, 20)}
	heavy := Tenant{Name: "heavy", Spec: s, Trace: hours(5, 0, 24, 9)}
	types := offers(t, "t3.nano", "t3.micro", "t3.small")
	for _, row := range []struct {
		name    string
		tenants []Tenant
		want    string
		after   float64
	}{
		{"those that are busy at other times share one", []Tenant{day, night}, "day+night on t3.micro", 730 * 0.0104},
		// Nine per cent of two vCPUs leave a tenth of what a micro earns; a small earns, and costs, twice as much.
		{"those that need all of theirs save nothing, and stay apart", []Tenant{heavy, {Name: "too", Spec: s, Trace: heavy.Trace}}, "heavy on t3.micro, too on t3.micro", 2 * 730 * 0.0104},
		{"memory counts where it is given", []Tenant{
			{Name: "day", Spec: s, Trace: day.Trace, Memory: 0.9},
			{Name: "night", Spec: s, Trace: night.Trace, Memory: 0.9},
		}, "", 2 * 730 * 0.0104},
		{"jobs need credits too", []Tenant{{Name: "idle", Spec: s, Trace: steady(0.5, 5), Jobs: []Job{
			every(t, "0 1 * * *", Job{Name: "report", Need: 200, Cores: 2}, 8*time.Hour),
		}}}, "idle on t3.micro", 730 * 0.0104},
		{"and without them less will do", []Tenant{{Name: "idle", Spec: s, Trace: steady(0.5, 5)}}, "idle on t3.nano", 730 * 0.0052},
	} {
		a, err := Consolidate(Question{Tenants: row.tenants, Types: types, Samples: 20})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range a.Groups {
			got = append(got, strings.Join(g.Tenants, "+")+" on "+g.Type)
			if g.Sure < 0.9 {
				t.Errorf("%s: %+v is not sure enough", row.name, g)
			}
		}
		if text := strings.Join(got, ", "); row.want != "" && text != row.want || a.After < row.after-1e-6 || a.After > row.after+1e-6 {
			t.Errorf("%s: %s for %.4f, want %s for %.4f", row.name, text, a.After, row.want, row.after)
		}
		if a.Text() == "" || a.Days != 5 {
			t.Errorf("%s: %+v", row.name, a)
		}
	}
}

func TestSettleLeavesTheUnsure(t *testing.T) {
	s := spec(t, "t3.nano")
	a, err := Consolidate(Question{
		Tenants: []Tenant{{Name: "web", Spec: s, Trace: steady(1, 3), Jobs: []Job{every(t, "0 1 * * *", Job{Name: "x", Need: 5000}, 8*time.Hour)}}},
		Types:   offers(t, "t3.nano", "t3.micro"), Samples: 5,
	})
	if err != nil || len(a.Unsure) != 1 || len(a.Groups) != 1 || a.Groups[0].Type != "t3.nano" || a.Groups[0].Sure > 0 {
		t.Errorf("%+v, %v", a, err)
	}
	short := Tenant{Name: "short", Spec: s, Trace: steady(1, 1)}
	for name, q := range map[string]Question{
		"nobody":   {Types: offers(t, "t3.nano")},
		"no type":  {Tenants: []Tenant{short}},
		"one day":  {Tenants: []Tenant{short}, Types: offers(t, "t3.nano")},
		"too sure": {Tenants: []Tenant{{Name: "a", Spec: s, Trace: steady(1, 3)}}, Types: offers(t, "t3.nano"), Sure: 2},
	} {
		if _, err := Consolidate(q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// To stay costs what it costs today, however the days fall that are resampled.
func TestStayingIsACandidate(t *testing.T) {
	s := spec(t, "t3.small")
	busy := steady(5, 6)
	for i := range busy.Values[:288] {
		busy.Values[i] = 60 // one day on which the services are throttled today as well
	}
	a, err := Consolidate(Question{Tenants: []Tenant{{Name: "web", Spec: s, Trace: busy}}, Types: offers(t, "t3.small", "t3.xlarge"), Samples: 20})
	if err != nil || a.After > a.Before+1e-9 || len(a.Groups) != 1 || a.Groups[0].Type != "t3.small" || a.Groups[0].Sure < 1 || len(a.Unsure) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestOffer(t *testing.T) {
	for name, want := range map[string][2]float64{
		"t3.nano": {0.0052, 0.5}, "t3.medium": {0.0416, 4}, "t3.2xlarge": {0.3328, 32}, "t4g.small": {0.0168, 2}, "t2.small": {0.023, 2}, "t3a.large": {0.0752, 8},
	} {
		o, ok := Offer(name, 0)
		if !ok || !near(o.Price, want[0]) || o.Memory != want[1] {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if o, _ := Offer("t3.nano", 0.007); o.Price != 0.007 {
		t.Errorf("its own price: %+v", o)
	}
	for _, name := range credit.Types() {
		if o, ok := Offer(name, 0); !ok || o.Price <= 0 != strings.HasPrefix(name, "t8i.") || o.Memory <= 0 {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }
