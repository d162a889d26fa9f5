package address

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"

	"github.com/google/go-cmp/cmp"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestClaimForms(t *testing.T) {
	for _, s := range []string{
		"", "eipalloc-0123456789abcdef0", "203.0.113.7", "tag:Name=the roof", "tag:k=", "tag:k=a@b", "tag:k=a@b.test",
		"eipalloc-1@10.0.0.6", "203.0.113.7@eni-0000000a", "tag:k=v@10.0.0.6", "tag:k=a@b@eni-00000001",
	} {
		if c := parseClaim(s); c.String() != s || c.IsZero() != (s == "") {
			t.Errorf("%q is read as %+v", s, c)
		}
	}
	if c, want := parseClaim("tag:k=a@eni-web"), (Claim{TagKey: "k", TagValue: "a@eni-web"}); c != want {
		t.Errorf("no interface has that id: the tag value is %q and the place %q", c.TagValue, c.Place)
	}
	c := parseClaim("tag:k=a@b@10.0.0.6")
	if want := (Claim{TagKey: "k", TagValue: "a@b", Place: Place{PrivateAddr: ip("10.0.0.6")}}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestSeveralClaims(t *testing.T) {
	got, err := ParseClaims([]string{" eipalloc-1", "", "203.0.113.7@10.0.0.6 ", "tag:k=v"})
	want := []Claim{{AllocationID: "eipalloc-1"}, {PublicIP: ip("203.0.113.7"), Place: Place{PrivateAddr: ip("10.0.0.6")}}, {TagKey: "k", TagValue: "v"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, row := range map[string]struct {
		in   []string
		want string
	}{
		"twice":           {[]string{"eipalloc-1", "eipalloc-1@10.0.0.6"}, `"eipalloc-1" is claimed twice`},
		"one place":       {[]string{"eipalloc-1@10.0.0.6", "eipalloc-2@10.0.0.6"}, `one place: "10.0.0.6"`},
		"one interface":   {[]string{"eipalloc-1@eni-00000001", "eipalloc-2@eni-00000001"}, `one place: "eni-00000001"`},
		"beyond all size": {many(51), "more than 50"},
	} {
		if _, err := ParseClaims(row.in); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

func many(n int) (all []string) {
	for i := range n {
		all = append(all, "tag:k="+strings.Repeat("v", i))
	}
	return all
}

func FuzzParseClaim(f *testing.F) {
	for _, s := range []string{"eipalloc-12345678@10.0.0.6", "tag:a=b@c@eni-12345678", "203.0.113.7", "tag:=", "@", "tag:a=@10.0.0.1", "tag:a=b@eni-x", "203.0.113.7@x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		setting, _ := config.Find("address.claim")
		if setting.Set(&config.Config{}, []string{s}) != nil {
			return
		}
		if c := parseClaim(s); c.IsZero() != (s == "") || parseClaim(c.String()) != c {
			t.Errorf("%q: %+v is written %q and read as %+v", s, c, c, parseClaim(c.String()))
		}
	})
}

func TestPlaces(t *testing.T) {
	primary := Interface{ID: "eni-00000001", PrivateAddrs: []netip.Addr{ip("10.0.0.5"), ip("10.0.0.6"), ip("10.0.0.7")}}
	second := Interface{ID: "eni-00000002", PrivateAddrs: []netip.Addr{ip("10.0.1.5")}}
	claim := func(s string) Want { return Want{Claim: parseClaim(s)} }
	here := func(s, eni, at string) Want {
		w := claim(s)
		w.Here = Place{InterfaceID: eni, PrivateAddr: ip(at)}
		return w
	}
	for name, row := range map[string]struct {
		wants []Want
		own   []Interface
		want  []string // a place, or "!" and a part of the reason
	}{
		"one":                     {[]Want{claim("eipalloc-1")}, []Interface{primary}, []string{"10.0.0.5"}},
		"three":                   {[]Want{claim("eipalloc-1"), claim("eipalloc-2"), claim("eipalloc-3")}, []Interface{primary}, []string{"10.0.0.5", "10.0.0.6", "10.0.0.7"}},
		"too many":                {[]Want{claim("eipalloc-1"), claim("eipalloc-2")}, []Interface{{ID: "eni-00000001", PrivateAddrs: primary.PrivateAddrs[:1]}}, []string{"10.0.0.5", "!eni-00000001 has no private IPv4 address left"}},
		"named goes first":        {[]Want{claim("eipalloc-1"), claim("eipalloc-2@10.0.0.5")}, []Interface{primary}, []string{"10.0.0.6", "10.0.0.5"}},
		"named interface":         {[]Want{claim("eipalloc-1"), claim("eipalloc-2@eni-00000002")}, []Interface{primary, second}, []string{"10.0.0.5", "10.0.1.5"}},
		"private of another one":  {[]Want{claim("eipalloc-1@10.0.1.5")}, []Interface{primary, second}, []string{"10.0.1.5"}},
		"not ours":                {[]Want{claim("eipalloc-1@eni-00000009"), claim("eipalloc-2@10.9.9.9")}, []Interface{primary}, []string{"!no network interface eni-00000009", "!10.9.9.9"}},
		"what is here stays":      {[]Want{claim("eipalloc-1"), here("eipalloc-2", "eni-00000001", "10.0.0.5")}, []Interface{primary}, []string{"10.0.0.6", "10.0.0.5"}},
		"here, where one belongs": {[]Want{claim("eipalloc-1@10.0.0.5"), here("eipalloc-2", "eni-00000001", "10.0.0.5")}, []Interface{primary}, []string{"!another claimed address", "10.0.0.5"}},
		"nothing known":           {[]Want{claim("eipalloc-1")}, nil, []string{"!no private IPv4 address left"}},
	} {
		var got []string
		for i, p := range AssignPlaces(row.wants, row.own) {
			s := p.Place.String()
			if p.Reason != "" {
				if s = "!" + p.Reason; strings.Contains(p.Reason, row.want[i][1:]) {
					s = row.want[i]
				}
			}
			got = append(got, s)
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	for s, want := range map[string]bool{"eipalloc-1": false, "eipalloc-1@eni-00000001": false, "eipalloc-1@10.0.0.5": false, "eipalloc-1@10.0.0.6": true, "eipalloc-1@eni-00000002": true} {
		if got := NeedInterfaces([]Claim{claim(s).Claim}, Interface{ID: "eni-00000001", PrivateAddrs: primary.PrivateAddrs[:1]}); got != want {
			t.Errorf("%s: needs the interfaces: %v", s, got)
		}
	}
}

func TestBorderGroups(t *testing.T) {
	for _, row := range [][3]string{
		{"us-west-2", "us-west-2a", "us-west-2"},
		{"us-west-2", "us-west-2-lax-1a", "us-west-2-lax-1"},
		{"us-east-1", "us-east-1-wl1-bos-wlz-1", "us-east-1-wl1-bos-wlz-1"},
		{"eu-west-1", "us-west-2a", ""},
		{"eu-west-1", "", ""},
		{"", "", ""},
		{"eu-west-1", "eu-west-1", ""},
	} {
		if got := BorderGroup(row[0], row[1]); got != row[2] {
			t.Errorf("%s in %s: %q, want %q", row[1], row[0], got, row[2])
		}
	}
}
