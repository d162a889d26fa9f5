package address

import (
	"slices"
	"strings"
	"testing"
)

// marked are the hosts, with the mark of HTTPS behind each.
func marked(hosts []string) (all []string) {
	for _, h := range hosts {
		all = append(all, h+HTTPSMark)
	}
	return all
}

// What a holder serves over HTTPS is covered only by who has a certificate for it.
func TestWhatIsMissingOverHTTPS(t *testing.T) {
	const none = "for which there is no certificate here"
	tag := func(live ...string) HolderTag { return NewHolderTag("i-0123456789abcdef0", noon, false, live) }
	for name, row := range map[string]struct {
		tag  HolderTag
		live []string
		want string
	}{
		"both have one":                             {tag("a.test:", "b.test"), []string{"a.test:", "b.test"}, ""},
		"only this one has one":                     {tag("a.test"), []string{"a.test:"}, ""},
		"only the holder has one":                   {tag("a.test:", "b.test"), []string{"a.test", "b.test:"}, `it serves "a.test" over HTTPS, ` + none},
		"it is not here at all":                     {tag("a.test:"), []string{"b.test:"}, `it serves "a.test", which has no live container here`},
		"an address":                                {tag("[2001:db8::1]:"), []string{"[2001:db8::1]"}, none},
		"a port is not marked":                      {tag("tcp:2222", "a.test"), []string{"a.test:", "tcp:2222"}, ""},
		"the holder has none yet":                   {tag("a.test", "b.test"), []string{"a.test", "b.test"}, ""},
		"many, both have them":                      {tag(marked(hosts(40))...), marked(hosts(41)), ""},
		"many, the holder has none":                 {tag(hosts(40)...), marked(hosts(41)), ""},
		"many, only the holder has them":            {tag(marked(hosts(40))...), hosts(41), "for 40 of them there is no live container or no certificate"},
		"many, the holder has one more":             {tag(marked(hosts(40))...), append(marked(hosts(39)), hosts(40)[39]), "for 1 of them there is"},
		"too many, both have them":                  {tag(marked(hosts(80))...), marked(hosts(80)), ""},
		"too many, the holder has none":             {tag(hosts(80)...), marked(hosts(80)), ""},
		"too many, only the holder has them":        {tag(marked(hosts(80))...), hosts(80), "not exactly the 80"},
		"too many, one of them only the holder has": {tag(marked(hosts(80))...), append(marked(hosts(79)), hosts(80)[79]), "not exactly the 80"},
	} {
		read, err := ParseHolderTag(row.tag.String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := read.Missing(row.live); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// missingBefore is Missing as agents had it before there were marks: their live hosts have none.
func missingBefore(t HolderTag, live []string) bool {
	all := normalizeHosts(live)
	return t.Sum != "" && sum(all) != t.Sum ||
		slices.ContainsFunc(t.Hashes, func(h string) bool { return !slices.Contains(hashes(all), h) }) ||
		slices.ContainsFunc(t.Hosts, func(h string) bool { return !slices.Contains(all, h) })
}

// An agent of before the marks does not take the address from one that has certificates, and one that has
// none is covered as before; what it wrote demands no certificates.
func TestTagsOfTheVersionBefore(t *testing.T) {
	for _, n := range []int{1, 3, 40, 80} {
		plain := NewHolderTag("i-1", noon, false, hosts(n))
		secure := NewHolderTag("i-1", noon, false, marked(hosts(n)))
		if missingBefore(plain, hosts(n)) || !missingBefore(secure, hosts(n)) {
			t.Errorf("%d hosts: to the version before, missing is %v without marks and %v with them", n, missingBefore(plain, hosts(n)), missingBefore(secure, hosts(n)))
		}
		for _, live := range [][]string{hosts(n), marked(hosts(n)), append(marked(hosts(n))[:n/2], hosts(n)[n/2:]...)} {
			if got := plain.Missing(live); got != "" {
				t.Errorf("%d hosts of the version before: %s", n, got)
			}
		}
	}
}

// Where the operator named the hosts, only their HTTPS counts.
func TestUncoveredOfNamedHosts(t *testing.T) {
	for name, row := range map[string]struct {
		holder, named, live []string
		want                string
	}{
		"all":                              {[]string{"a.test:", "b.test:"}, []string{"a.test"}, []string{"a.test:"}, ""},
		"another has no certificate":       {[]string{"a.test", "b.test:"}, []string{"a.test"}, []string{"a.test", "b.test"}, ""},
		"it has no certificate":            {[]string{"a.test:", "b.test:"}, []string{"A.test"}, []string{"a.test"}, `"a.test" over HTTPS`},
		"the holder has none either":       {[]string{"a.test"}, []string{"a.test"}, []string{"a.test"}, ""},
		"of many, it has no certificate":   {marked(hosts(40)), hosts(1), hosts(40), "over HTTPS"},
		"of many, the holder has none":     {hosts(40), hosts(1), hosts(40), ""},
		"of too many, nothing can be told": {marked(hosts(80)), hosts(1), hosts(80), ""},
	} {
		s := contested()
		s.Report.Address.HolderTag = NewHolderTag("i-other", noon, false, row.holder).String()
		if got := s.Uncovered(Situation{Named: row.named, LiveHosts: row.live}); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}
