package address

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// elastic is the claimed address of these tests.
var elastic = netip.MustParseAddr("203.0.113.7")

// shown is a situation in which instance metadata shows the address, or not.
func shown(yes bool) Situation {
	x := Situation{Identity: identity.Identity{Instance: identity.Instance{Known: true, ID: "i-self"}}}
	if yes {
		x.Identity.Instance.Primary.PublicAddr = []netip.Addr{elastic}
	}
	return x
}

func silent(x Situation) Situation {
	x.Identity.MetadataSilent = true
	return x
}

// held has been here for a day, and contested is with another instance.
func held() *State {
	return &State{Report: ClaimReport{Verified: true, ClaimStatus: ClaimStatus{
		Policy: Standby, Known: true, Address: Address{PublicIP: elastic}, Holder: Holder{Kind: Self}, Since: noon.Add(-24 * time.Hour),
	}}}
}

func contested() *State {
	s := held()
	s.Report.Holder = Holder{Kind: Other, InstanceID: "i-other", State: "running"}
	s.Peer.Instance = Instance{ID: "i-other", State: "running", PublicAddrs: []netip.Addr{elastic}}
	return s
}

// with changes a state.
func with(s *State, change func(*State)) *State {
	change(s)
	return s
}

func TestSchedule(t *testing.T) {
	const never = time.Duration(-1)
	free := func() *State {
		return with(held(), func(s *State) { s.Report.Holder = Holder{Kind: Nobody}; s.Report.Policy = Manual })
	}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for name, row := range map[string]struct {
		states             []*State
		x                  Situation
		every              time.Duration // zero is the default
		addresses, holders time.Duration // from now
	}{
		"held":                                {[]*State{held()}, shown(true), 0, 24 * DefaultEvery, never},
		"held, asked seldom":                  {[]*State{held()}, shown(true), time.Minute, 6 * time.Minute, never},
		"held, asked very seldom":             {[]*State{held()}, shown(true), time.Hour, time.Hour, never},
		"just taken, not shown by EC2":        {[]*State{with(held(), func(s *State) { s.Report.Verified = false; s.Change.At = noon })}, shown(true), 0, 100 * time.Millisecond, never},
		"taken a while ago, not shown by EC2": {[]*State{with(held(), func(s *State) { s.Report.Verified = false; s.Change.At = ago(700 * time.Millisecond) })}, shown(true), 0, 700 * time.Millisecond, never},
		"taken long ago, not shown by EC2":    {[]*State{with(held(), func(s *State) { s.Report.Verified = false; s.Change.At = ago(time.Minute) })}, shown(true), 0, 2 * time.Second, never},
		"just taken":                          {[]*State{with(held(), func(s *State) { s.Change.At = ago(5 * time.Second) })}, shown(true), 0, 40 * time.Second, never},
		"taken and looked at again":           {[]*State{with(held(), func(s *State) { s.Change.At = ago(45 * time.Second) })}, shown(true), 0, 24 * DefaultEvery, never},
		"just taken, not shown by metadata":   {[]*State{with(held(), func(s *State) { s.Change.At, s.Report.Since = ago(5*time.Second), ago(5*time.Second) })}, shown(false), 0, 12 * time.Second, never},
		"held, metadata shows none for long":  {[]*State{held()}, shown(false), 0, 24 * DefaultEvery, never},
		"probably lost":                       {[]*State{with(held(), func(s *State) { s.LostUntil = noon.Add(time.Second) })}, shown(false), 0, 5 * time.Second, never},
		"probably lost for too long":          {[]*State{with(held(), func(s *State) { s.LostUntil = noon })}, shown(false), 0, 24 * DefaultEvery, never},
		"held, metadata silent":               {[]*State{held()}, silent(shown(true)), 0, 15 * time.Second, never},
		"held, leaving":                       {[]*State{with(held(), func(s *State) { s.Written = Written{Tag: HolderTag{Leaving: true}, SeenAt: noon} })}, shown(true), 0, time.Minute, never},
		"held, leaving for long":              {[]*State{with(held(), func(s *State) { s.Written = Written{Tag: HolderTag{Leaving: true}, SeenAt: ago(10 * time.Minute)} })}, shown(true), 0, 24 * DefaultEvery, never},
		"contested":                           {[]*State{contested()}, shown(false), 0, 30 * time.Minute, DefaultEvery},
		"contested, asked often":              {[]*State{contested()}, shown(false), time.Second, 124 * time.Second, time.Second},
		"contested, but the policy waits":     {[]*State{with(contested(), func(s *State) { s.Report.Policy = Wait })}, shown(false), 0, DefaultEvery, never},
		"contested, a hint just now":          {[]*State{with(contested(), func(s *State) { s.Peer.HintedAt = ago(time.Second) })}, shown(false), 0, 5 * time.Second, DefaultEvery},
		"contested, a hint some time ago":     {[]*State{with(contested(), func(s *State) { s.Peer.HintedAt = ago(15 * time.Second) })}, shown(false), 0, 30 * time.Minute, DefaultEvery},
		"contested, the budget opens":         {[]*State{with(contested(), func(s *State) { s.Report.Spent = Budget{ago(50 * time.Second)} })}, shown(false), 0, 10 * time.Second, DefaultEvery},
		"EC2 shows what was before a release": {[]*State{with(contested(), func(s *State) { s.Outdated, s.Change.At = true, ago(time.Second) })}, shown(false), 0, time.Second, never},
		"free":                                {[]*State{free()}, shown(false), 0, DefaultEvery, never},
		"free, the budget opens":              {[]*State{with(free(), func(s *State) { s.Report.Spent = Budget{ago(58 * time.Second)} })}, shown(false), 0, 2 * time.Second, never},
		"failed":                              {[]*State{with(free(), func(s *State) { s.Failed = true })}, shown(false), 0, never, never},
		"the soonest of several":              {[]*State{held(), contested(), free()}, shown(true), 0, DefaultEvery, DefaultEvery},
		"one failed":                          {[]*State{with(free(), func(s *State) { s.Failed = true }), held()}, shown(true), 0, 24 * DefaultEvery, never},
	} {
		t.Run(name, func(t *testing.T) {
			if row.every == 0 {
				row.every = DefaultEvery
			}
			k := NewSchedule(row.states, row.x, row.every, noon, 0)
			for what, times := range map[string][2]time.Duration{"addresses": {row.addresses, k.Addresses.Sub(noon)}, "holders": {row.holders, k.Holders.Sub(noon)}} {
				if want, got := times[0], times[1]; got != want && (want != never || got > 0) {
					t.Errorf("%s in %v, want %v", what, got, want)
				}
			}
			for _, jitter := range []float64{-1, 1} {
				got := NewSchedule(row.states, row.x, row.every, noon, jitter).Addresses
				if at := k.Addresses; !at.IsZero() && got.Sub(at).Abs() > at.Sub(noon)/10 {
					t.Errorf("with jitter %v the addresses are looked at in %v", jitter, got.Sub(noon))
				}
			}
		})
	}
}

func TestWhatIsDue(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for name, row := range map[string]struct {
		k                  Schedule
		addresses, holders bool
		next               time.Time
	}{
		"nothing":                     {Schedule{}, false, false, time.Time{}},
		"later":                       {Schedule{Addresses: at(1), Holders: at(2)}, false, false, at(1)},
		"addresses":                   {Schedule{Addresses: noon}, true, false, noon},
		"holders":                     {Schedule{Addresses: at(time.Hour), Holders: noon}, false, true, noon},
		"both":                        {Schedule{Addresses: at(-1), Holders: at(-2)}, true, false, at(-2)},
		"holders, and soon addresses": {Schedule{Addresses: at(time.Second), Holders: noon}, true, false, noon},
	} {
		addresses, holders := row.k.Due(DefaultEvery, noon)
		if addresses != row.addresses || holders != row.holders || !row.k.Next().Equal(row.next) {
			t.Errorf("%s: addresses %v, holders %v, next %v", name, addresses, holders, row.k.Next())
		}
	}
	var k Schedule
	for _, d := range []time.Duration{3, 2, 4} {
		k.Advance(at(d))
	}
	if k.Advance(time.Time{}); !k.Addresses.Equal(at(2)) {
		t.Errorf("the soonest is %v", k.Addresses)
	}
}

func TestRetryMost(t *testing.T) {
	for name, row := range map[string]struct {
		s       *State
		x       Situation
		running time.Duration
		want    time.Duration
	}{
		"young":                 {contested(), shown(false), 59 * time.Second, 5 * time.Second},
		"contested":             {contested(), shown(false), time.Minute, time.Minute},
		"contested, silent":     {contested(), silent(shown(false)), time.Minute, time.Minute},
		"held":                  {held(), shown(true), time.Hour, time.Minute},
		"held, not shown":       {held(), shown(false), time.Hour, 5 * time.Second},
		"held, silent":          {held(), silent(shown(true)), time.Hour, 15 * time.Second},
		"held, silent, missing": {held(), silent(shown(false)), time.Hour, 15 * time.Second},
	} {
		if got := RetryMost([]*State{row.s}, row.x, row.running); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// What a new situation says is a reason to ask EC2, or not.
func TestFollow(t *testing.T) {
	leaving := func(x Situation) Situation {
		x.Identity.Notices = []identity.Notice{{Kind: identity.Rebalance}}
		return x
	}
	ready := func(x Situation, hosts ...string) Situation {
		x.Ready, x.LiveHosts = true, hosts
		return x
	}
	tagged := with(contested(), func(s *State) {
		s.Report.Address.HolderTag = NewHolderTag("i-other", noon, false, []string{"a.test"}).String()
	})
	for name, row := range map[string]struct {
		s      *State
		was, x Situation
		want   time.Duration // from now; negative is never
		lost   bool
	}{
		"nothing new":                    {held(), shown(true), shown(true), -1, false},
		"held, gone from metadata":       {held(), shown(true), shown(false), 0, true},
		"held, shown at last":            {with(held(), func(s *State) { s.LostUntil = noon.Add(time.Second) }), shown(false), shown(true), -1, false},
		"held, metadata falls silent":    {held(), shown(true), silent(shown(true)), 15 * time.Second, false},
		"held, metadata answers again":   {held(), silent(shown(true)), shown(true), -1, false},
		"held, answers without it":       {held(), silent(shown(false)), shown(false), 0, true},
		"contested, appears in metadata": {contested(), shown(false), shown(true), 0, false},
		"contested, ready":               {contested(), shown(false), ready(shown(false)), 0, false},
		"contested, ready as before":     {contested(), ready(shown(false)), ready(shown(false), "a.test"), -1, false},
		"contested, covers the holder":   {tagged, ready(shown(false)), ready(shown(false), "a.test"), 0, false},
		"contested, covers not all":      {tagged, ready(shown(false)), ready(shown(false), "b.test"), -1, false},
		"contested, leaving":             {contested(), shown(false), leaving(shown(false)), -1, false},
		"contested, stays after all":     {contested(), leaving(shown(false)), shown(false), 0, false},
		"contested, metadata silent":     {contested(), shown(false), silent(shown(false)), -1, false},
	} {
		got := row.s.Follow(row.was, row.x, noon)
		if got.IsZero() != (row.want < 0) || row.want >= 0 && got.Sub(noon) != row.want || row.s.LostUntil.After(noon) != row.lost {
			t.Errorf("%s: ask in %v, lost until %v", name, got.Sub(noon), row.s.LostUntil)
		}
	}
}

// When the holder tag is written.
func TestNextTag(t *testing.T) {
	serving := func(hosts ...string) HolderTag { return NewHolderTag("i-self", noon, false, hosts) }
	leaving := serving("a.test")
	leaving.Leaving = true
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for name, row := range map[string]struct {
		written Written
		live    []string
		change  func(*State)
		changed time.Time // the live hosts
		want    time.Time
	}{
		"nothing known":                   {Written{}, nil, nil, noon, time.Time{}},
		"nothing written":                 {Written{}, []string{"a.test"}, nil, time.Time{}, noon},
		"hosts just changed":              {Written{}, []string{"a.test"}, nil, at(-time.Second), at(59 * time.Second)},
		"the same hosts":                  {Written{Tag: serving("a.test")}, []string{"a.test"}, nil, noon, time.Time{}},
		"other hosts, written just now":   {Written{Tag: serving("a.test"), At: at(-time.Minute)}, []string{"b.test"}, nil, at(-time.Minute), at(9 * time.Minute)},
		"other hosts, written long ago":   {Written{Tag: serving("a.test"), At: at(-time.Hour)}, []string{"b.test"}, nil, at(-time.Minute), noon},
		"released":                        {Written{Tag: serving("a.test"), At: noon}, []string{"a.test"}, func(s *State) { s.Report.Released = true }, noon, noon},
		"released, written already":       {Written{Tag: leaving, At: noon}, []string{"b.test"}, func(s *State) { s.Report.Released = true }, noon, time.Time{}},
		"taken back":                      {Written{Tag: leaving, At: noon}, []string{"a.test"}, nil, noon, noon},
		"released, but probably lost":     {Written{Tag: serving("a.test"), At: noon}, nil, func(s *State) { s.Report.Released, s.LostUntil = true, at(time.Second) }, noon, at(time.Second)},
		"released, written before a loss": {Written{Tag: leaving, At: noon}, nil, func(s *State) { s.Report.Released, s.LostUntil = true, at(time.Second) }, noon, time.Time{}},
	} {
		s := held()
		if s.Written = row.written; row.change != nil {
			row.change(s)
		}
		x := shown(true)
		x.LiveHosts = row.live
		tag, got := s.NextTag(x, row.changed, noon)
		if !got.Equal(row.want) || tag.Leaving != s.Report.Released || !tag.sameHosts(serving(row.live...)) {
			t.Errorf("%s: %s at %v, want %v", name, tag, got, row.want)
		}
	}
}
