package credit

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var monday = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// flat is a forecast of constant demand.
func flat(from time.Time, hours int, d Demand) []Point {
	var ps []Point
	for i := range hours {
		ps = append(ps, Point{At: from.Add(time.Duration(i+1) * time.Hour), Demand: d})
	}
	return ps
}

func TestProfileStartsConservative(t *testing.T) {
	s := mustLookup(t, "t3.small")
	var p Profile
	if d := p.At(monday, s); d.Mean != s.Baseline()/2 || d.High != s.Baseline() {
		t.Errorf("nothing seen: %+v", d)
	}
	// A busy first minute counts at once, and is not expected to last forever.
	p.Observe(monday, monday.Add(time.Minute), 1.5)
	soon, late := p.At(monday.Add(time.Minute), s), p.At(monday.Add(24*time.Hour), s)
	if !near(soon.Mean, 1.5) || soon.High < soon.Mean {
		t.Errorf("a minute later: %+v, want what was just seen", soon)
	}
	if late.Mean > s.Baseline() {
		t.Errorf("a day later: %+v", late)
	}
}

func TestProfileLearnsHours(t *testing.T) {
	s := mustLookup(t, "t3.small")
	var p Profile
	// Two weeks: 0.5 vCPU at 09:00-10:00 on working days, 0.02 otherwise.
	for at := monday; at.Before(monday.AddDate(0, 0, 14)); at = at.Add(5 * time.Minute) {
		demand := 0.02
		if at.Hour() == 9 && at.Weekday() != time.Saturday && at.Weekday() != time.Sunday {
			demand = 0.5
		}
		p.Observe(at, at.Add(5*time.Minute), demand*5)
	}
	next := monday.AddDate(0, 0, 14)
	busy, quiet := p.At(next.Add(9*time.Hour), s), p.At(next.Add(3*time.Hour), s)
	sunday := p.At(next.AddDate(0, 0, 6).Add(9*time.Hour), s)
	if busy.Mean < 0.3 || busy.High < 0.4 || busy.High > 0.65 {
		t.Errorf("monday 09:00: %+v, want about 0.5", busy)
	}
	if quiet.Mean > 0.05 || quiet.High > 0.08 {
		t.Errorf("monday 03:00: %+v, want about 0.02", quiet)
	}
	if sunday.Mean > busy.Mean {
		t.Errorf("sunday 09:00 %+v is not below monday %+v", sunday, busy)
	}
	blob, err := json.Marshal(p)
	if err != nil || len(blob) > 40_000 {
		t.Errorf("a learned profile is %d bytes of JSON (%v)", len(blob), err)
	}
	var again Profile
	if err := json.Unmarshal(blob, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, again); d != "" {
		t.Error("JSON changes the profile:", d)
	}
}

// Hours that are the same each day are soon taken for what they were. Those that are not lean on all hours.
func TestProfileTrustsHoursThatAreAlike(t *testing.T) {
	s := mustLookup(t, "t3.micro")
	learn := func(demand func(day, hour int) float64) Demand {
		var p Profile
		for hour := range 5 * 24 {
			at := monday.Add(time.Duration(hour) * time.Hour)
			p.Observe(at, at.Add(time.Hour), 60*demand(hour/24, hour%24))
		}
		p.Recent, p.Lasting = 0, 0
		return p.At(monday.Add(5*24*time.Hour+12*time.Hour), s)
	}
	alike := learn(func(_, h int) float64 {
		if h >= 9 && h < 17 {
			return 0.36
		}
		return 0.08
	})
	if alike.Mean < 0.35 || alike.Mean > 0.36 {
		t.Errorf("0.36 on each of five days is learned as %.3f", alike.Mean)
	}
	// As much demand in sum, at other hours each day: of 12:00 that says little.
	other := learn(func(d, h int) float64 {
		if d == 4 && h == 12 || (5*h+7*d)%24 < 8 {
			return 0.36
		}
		return 0.08
	})
	if other.Mean > 0.28 {
		t.Errorf("0.36 at other hours each day is learned as %.3f at one of them", other.Mean)
	}
}

// Weeks are alike where each hour is as it was a week before.
func TestWeeksThatAreAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	weekends := func(day int) float64 {
		if day%7 >= 5 {
			return 0.5
		}
		return 0.06
	}
	for name, tt := range map[string]struct {
		days   int
		demand func(day int) float64
		want   bool
	}{
		"busy weekends":               {11, weekends, true},
		"in the first week":           {7, weekends, false},
		"each day is the same":        {21, func(int) float64 { return 0.1 }, true},
		"no day is as another":        {21, func(int) float64 { return r.Float64() }, false},
		"busy weekends, now and then": {21, func(day int) float64 { return weekends(day) * 2 * r.Float64() }, false},
	} {
		var p Profile
		for hour := range tt.days * 24 {
			at := monday.Add(time.Duration(hour) * time.Hour)
			p.Observe(at, at.Add(time.Hour), 60*tt.demand(hour/24))
		}
		if got := p.Regular(mustLookup(t, "t3.micro")); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A step of the forecast that begins in a busy hour and ends in a quiet one needs something of both.
func TestAStepIsOfTheHoursThatItIsIn(t *testing.T) {
	s := mustLookup(t, "t3.micro")
	var p Profile
	for hour := range 5 * 24 {
		at, demand := monday.Add(time.Duration(hour)*time.Hour), 0.1
		if hour%24 < 12 {
			demand = 0.5
		}
		p.Observe(at, at.Add(time.Hour), 60*demand)
	}
	from := monday.Add(5*24*time.Hour + 10*time.Hour + 15*time.Minute)
	points := Project(Bank{Spec: s}, &p, from, 3*time.Hour, time.Hour)
	for i, want := range []float64{0.5, 0.4, 0.1} {
		if got := points[i].Demand.Mean; math.Abs(got-want) > 0.02 {
			t.Errorf("the hour to %s needs %.3f vCPUs, want %v", points[i].At.Format("15:04"), got, want)
		}
	}
}

func TestProfileSkipsHoursHardlySeen(t *testing.T) {
	var p Profile
	p.Observe(monday, monday.Add(10*time.Minute), 20)
	p.Observe(monday.Add(2*time.Hour), monday.Add(2*time.Hour+time.Minute), 0)
	if p.All.Weight != 0 {
		t.Errorf("ten minutes counted as an hour: %+v", p.All)
	}
}

func TestProjectAndFullAt(t *testing.T) {
	s := mustLookup(t, "t3.small")
	var p Profile
	b := Bank{Spec: s, Mode: Standard, Balance: 556}
	ps := Project(b, &p, monday, 24*time.Hour, time.Hour)
	if len(ps) != 24 || !near(ps[0].Balance, 568) || !near(ps[0].Low, 556) || !near(ps[23].Balance, 576) {
		t.Fatalf("points: %+v", ps)
	}
	var thrown float64
	for _, x := range ps {
		thrown += x.Discarded
	}
	if !near(thrown, 24*12-20) {
		t.Errorf("thrown away %v", thrown)
	}
	if got, want := FullAt(b, monday, ps), monday.Add(100*time.Minute); got.Sub(want).Abs() > time.Second {
		t.Errorf("full at %v, want %v", got, want)
	}
	b.Balance = 576
	if got := FullAt(b, monday, ps); !got.Equal(monday) {
		t.Errorf("a full bank is full at %v", got)
	}
	b.Balance = 0
	if got := FullAt(b, monday, ps); !got.IsZero() {
		t.Errorf("an empty bank is full at %v", got)
	}
	if Project(b, &p, monday, time.Hour, 0) != nil || Project(b, &p, monday, -1, time.Hour) != nil {
		t.Error("a step or horizon that is not positive gave points")
	}
}

func TestHeadroom(t *testing.T) {
	s := mustLookup(t, "t3.small") // 2 vCPUs, 0.4 credits a minute
	idle, base := Demand{}, Demand{High: 0.4}
	tests := []struct {
		name   string
		bank   Bank
		high   Demand
		floor  float64
		cores  float64
		loads  []Load
		want   float64
		within float64
	}{
		// At 2 vCPUs 250 credits last 156.25 minutes, in which 62.5 are earned.
		{name: "all cores", bank: Bank{Balance: 300}, high: idle, floor: 50, want: 312.5},
		// What it may spend at 1.6 vCPUs beside services that use up all earnings.
		{name: "services at the baseline", bank: Bank{Balance: 300}, high: base, floor: 50, want: 250},
		{name: "services alone go below the floor", bank: Bank{Balance: 60}, high: Demand{High: 0.5}, floor: 50, want: 0},
		{name: "already below the floor", bank: Bank{Balance: 40}, high: idle, floor: 50, want: 0},
		// Nothing that lies beyond the points is promised.
		{name: "a slow batch lives on earnings", bank: Bank{Balance: 50}, high: idle, floor: 50, cores: 0.4, want: 12 * 60 * 0.4},
		{name: "beside a running one", bank: Bank{Balance: 300}, high: base, floor: 50, loads: []Load{{Credits: 100, Cores: 1}}, want: 150},
		{name: "unlimited, nothing borrowed", bank: Bank{Mode: Unlimited, Balance: 100}, high: base, floor: 0, want: 100},
		{name: "unlimited, 200 may be borrowed", bank: Bank{Mode: Unlimited, Balance: 100}, high: base, floor: -200, want: 300},
		{name: "owing already", bank: Bank{Mode: Unlimited, Surplus: 10}, high: base, floor: 0, want: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.bank.Spec = s
			got := Headroom(tt.bank, monday, flat(monday, 12, tt.high), tt.floor, tt.cores, tt.loads)
			if math.Abs(got-tt.want) > 0.1 {
				t.Errorf("headroom = %.3f, want %.3f", got, tt.want)
			}
		})
	}
	if got := Headroom(Bank{Spec: s, Balance: 500}, monday, nil, 0, 0, nil); got != 0 {
		t.Errorf("without a forecast the headroom is %v, want 0", got)
	}
}

// The services come first, and what they do not get for a load's sake is taken from them.
func TestOutcome(t *testing.T) {
	spec := mustLookup(t, "t3.small") // 2 vCPUs, 0.4 credits a minute
	for _, tt := range []struct {
		name     string
		bank     Bank
		services float64
		loads    []Load
		want     float64
		end      time.Duration
	}{
		{name: "enough for both", bank: Bank{Balance: 300}, services: 0.4, loads: []Load{{Credits: 60, Cores: 1}}, end: time.Hour},
		{name: "below the baseline the services lose nothing", bank: Bank{Balance: 0}, services: 0.3, loads: []Load{{Credits: 60, Cores: 1}}, end: 10 * time.Hour},
		// 0.1 a minute more than is earned: 100 credits last 1000 minutes, and the points reach to 720.
		{name: "alone they have enough", bank: Bank{Balance: 100}, services: 0.5},
		// 28 would be left.
		{name: "all that the load takes is missing later", bank: Bank{Balance: 72}, services: 0.5, loads: []Load{{Credits: 50, Cores: 1}}, want: 50, end: 50 * time.Minute},
		{name: "and no more than is there", bank: Bank{Balance: 60}, services: 0.5, loads: []Load{{Credits: 200, Cores: 1}}, want: 0.1 * (720 - 60/1.1)},
		{name: "without jobs too", bank: Bank{Balance: 0}, services: 0.5, want: 0.1 * 720},
		{name: "an unlimited bank is billed", bank: Bank{Mode: Unlimited, Surplus: 576}, services: 0.4, loads: []Load{{Credits: 30, Cores: 1}}, want: 30, end: 30 * time.Minute},
		{name: "launch credits are spent first", bank: Bank{Launch: 30}, services: 0.4, loads: []Load{{Credits: 30, Cores: 1}}, end: 30 * time.Minute},
	} {
		tt.bank.Spec = spec
		a := Outcome(tt.bank, monday, flat(monday, 12, Demand{High: tt.services}), tt.loads)
		if got := a.Throttled + a.Charged; math.Abs(got-tt.want) > 0.1 {
			t.Errorf("%s: %.2f, want %.2f", tt.name, got, tt.want)
		}
		for _, end := range a.Ends {
			if tt.end == 0 != end.IsZero() || tt.end > 0 && end.Sub(monday.Add(tt.end)).Abs() > time.Second {
				t.Errorf("%s: ends at %v, want %v", tt.name, end, monday.Add(tt.end))
			}
		}
	}
}

func TestLowestSaysWhen(t *testing.T) {
	b := Bank{Spec: mustLookup(t, "t3.small"), Mode: Standard, Balance: 100}
	low, at := Lowest(b, monday, flat(monday, 3, Demand{High: 0.2}), []Load{{Credits: 60, Cores: 1}})
	if !near(low, 100-0.8*60) || at.Sub(monday.Add(time.Hour)).Abs() > time.Second {
		t.Errorf("lowest %v at %v", low, at)
	}
	low, _ = Lowest(b, monday, flat(monday, 3, Demand{High: 2}), nil)
	if !near(low, 100-1.6*180) {
		t.Errorf("throttling is not counted below 0: %v", low)
	}
}

// However short the horizon, a batch may never be promised more than there is.
func TestHeadroomIsNotWhatAShortHorizonHides(t *testing.T) {
	spec, _ := Lookup("t3.micro")
	b := Bank{Spec: spec, Mode: Standard, Balance: 200}
	from := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	points := []Point{{At: from.Add(time.Hour)}}
	if got, want := Headroom(b, from, points, 10, 0, nil), 200+12.0-10; math.Abs(got-want) > 0.1 {
		t.Errorf("headroom %.1f with 200 credits, 12 earned and 10 reserved; want %.1f", got, want)
	}
}

// Whatever the bank and the forecast: the headroom fits, and a little more does not.
func TestHeadroomIsTheMost(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		s := mustLookup(t, Types()[r.IntN(len(Types()))])
		b := Open(s, []Mode{Standard, Unlimited}[r.IntN(2)]).Holding((r.Float64()*1.4 - 0.4) * s.Max)
		var points []Point
		for i := range 1 + r.IntN(24) {
			points = append(points, Point{At: monday.Add(time.Duration(i+1) * time.Hour), Demand: Demand{High: r.Float64() * r.Float64() * 2 * s.Baseline()}})
		}
		var loads []Load
		for range r.IntN(3) {
			loads = append(loads, Load{Credits: r.Float64() * s.Max / 4, Cores: float64(r.IntN(3))})
		}
		floor, cores := (r.Float64()*1.2-0.6)*s.Max, float64(r.IntN(3))
		got := Headroom(b, monday, points, floor, cores, loads)
		low := func(x float64) float64 {
			l, _ := Lowest(b, monday, points, append(slices.Clone(loads), Load{Credits: x, Cores: cores}))
			return l
		}
		most := s.Max + s.LaunchCredits + float64(s.VCPUs)*points[len(points)-1].At.Sub(monday).Minutes()
		switch {
		case got == 0 && low(0) < floor:
		case low(got) < floor-1e-6:
			t.Errorf("%+v: %v does not fit: %v is below %v", b, got, low(got), floor)
		case got < most-0.01 && low(got+0.01) >= floor:
			t.Errorf("%+v: %v and a little more fit", b, got)
		}
	}
}

// A load that has doubled for half a day is expected to stay; a spike of an hour is not, and is soon forgotten.
func TestWhatLastsIsExpectedToLast(t *testing.T) {
	s := mustLookup(t, "t3.micro")
	var quiet Profile
	at := monday
	for ; at.Before(monday.AddDate(0, 0, 10)); at = at.Add(5 * time.Minute) {
		quiet.Observe(at, at.Add(5*time.Minute), 0.1*5)
	}
	after := func(demand float64, lasts, then time.Duration) Demand {
		p := quiet
		now := at
		for end := at.Add(lasts); now.Before(end); now = now.Add(5 * time.Minute) {
			p.Observe(now, now.Add(5*time.Minute), demand*5)
		}
		for end := now.Add(then); now.Before(end); now = now.Add(5 * time.Minute) {
			p.Observe(now, now.Add(5*time.Minute), 0.1*5)
		}
		return p.At(now.Add(10*time.Hour), s)
	}
	if d := after(0.3, 15*time.Hour, 0); d.Mean < 0.2 || d.High < 0.25 {
		t.Errorf("ten hours ahead, after 15 hours at three times the load: %+v", d)
	}
	if d := after(1, time.Hour, 6*time.Hour); d.Mean > 0.15 {
		t.Errorf("ten hours ahead, six hours after a spike of one: %+v", d)
	}
	if d := after(1, time.Hour, 48*time.Hour); d.Mean > 0.12 || d.High > 0.2 {
		t.Errorf("two days after a spike: %+v", d)
	}
}
