package address

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func hosts(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("host-%03d.example.com", i))
	}
	return all
}

func TestHolderTagIsReadAsItWasWritten(t *testing.T) {
	for name, row := range map[string]struct {
		s    HolderTag
		want string
	}{
		"hosts":         {NewHolderTag("i-1a", noon, false, []string{"B.test", "a.test", "a.test", ""}), "i-1a 1767355200 serving a.test,b.test"},
		"over HTTPS":    {NewHolderTag("i-1a", noon, false, []string{"b.test", "A.test:"}), "i-1a 1767355200 serving a.test:,b.test"},
		"a mark alone":  {NewHolderTag("i-1a", noon, false, []string{":"}), "i-1a 1767355200 serving hashes:" + hash(":")},
		"leaving":       {NewHolderTag("i-1a", noon.Add(900*time.Millisecond), true, []string{"*.a.test"}), "i-1a 1767355200 leaving *.a.test"},
		"none":          {NewHolderTag("i-1a", noon, true, nil), "i-1a 1767355200 leaving -"},
		"not plain":     {NewHolderTag("i-1a", noon, false, []string{"~^a,b .*$"}), "i-1a 1767355200 serving hashes:" + hash("~^a,b .*$")},
		"a dash":        {NewHolderTag("i-1a", noon, false, []string{"-"}), "i-1a 1767355200 serving hashes:" + hash("-")},
		"like a digest": {NewHolderTag("i-1a", noon, false, []string{"sha256:0123456789abcdef"}), "i-1a 1767355200 serving hashes:" + hash("sha256:0123456789abcdef")},
		"like a hash":   {NewHolderTag("i-1a", noon, false, []string{"hashes:aaaa"}), "i-1a 1767355200 serving hashes:" + hash("hashes:aaaa")},
		"long":          {NewHolderTag("i-0123456789abcdef0", noon, false, hosts(50)), "i-0123456789abcdef0 1767355200 serving hashes:" + strings.Join(hashes(hosts(50)), "")},
		"too long":      {NewHolderTag("i-0123456789abcdef0", noon, false, hosts(60)), "i-0123456789abcdef0 1767355200 serving sha256:" + sum(hosts(60)) + " 60"},
	} {
		if got := row.s.String(); got != row.want {
			t.Errorf("%s is written %q, want %q", name, got, row.want)
		}
		got, err := ParseHolderTag(row.want)
		if err != nil || !got.At.Equal(row.s.At) {
			t.Errorf("%s is read as %+v, %v", name, got, err)
		}
		got.At = row.s.At
		if d := cmp.Diff(row.s, got); d != "" {
			t.Errorf("%s (-written +read):\n%s", name, d)
		}
	}
}

func TestInvalidHolderTags(t *testing.T) {
	for _, text := range []string{
		"", "i-1", "i-1 0 serving", "i-1 0 sleeping -", "x 0 serving -", "i- 0 serving -", "i-1 -1 serving -", "i-1 x serving -", "i-1 00 serving -",
		"i-1 0 serving b,a", "i-1 0 serving a,a", "i-1 0 serving A", "i-1 0 serving a b", "i-1 0 serving ", "i-1 0 serving a,", "i-1  0 serving -",
		"i-1 0 serving sha256:0123456789abcdef", "i-1 0 serving sha256:xyz 3", "i-1 0 serving sha256:0123456789abcdef 0", "i-1 0 serving sha256:0123456789abcdef 03",
		"i-1 0 serving hashes:", "i-1 0 serving hashes:abc", "i-1 0 serving hashes:bbbbaaaa", "i-1 0 serving hashes:aaaaaaaa", "i-1 0 serving hashes:AAAA",
		"i-1 0 serving hashes:aaa1", "i-1 0 serving hashes:aaaa,b.test", "i-1 0 serving hashes:" + strings.Repeat("a", 300),
		"i-1 0 serving " + strings.Repeat("a", 300), "i-1 0 serving a\x1b[2J", "i-1 99999999999999 serving -",
	} {
		if s, err := ParseHolderTag(text); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
	a := Address{HolderTag: "i-1 0 leaving -"}
	if got := holderTagOf(a, Holder{Kind: Other, InstanceID: "i-2"}); got.Leaving {
		t.Error("another instance's tag is believed")
	}
	if got := holderTagOf(a, Holder{Kind: Nobody}); got.Leaving {
		t.Error("a tag is believed of nobody")
	}
	if got := holderTagOf(a, Holder{Kind: Other, InstanceID: "i-1"}); !got.Leaving {
		t.Error("the holder's own tag is not believed")
	}
}

func TestWhatIsMissing(t *testing.T) {
	list := NewHolderTag("i-1", noon, false, []string{"a.test", "b.test"})
	long := NewHolderTag("i-1", noon, false, hosts(40))
	tooMany := NewHolderTag("i-1", noon, false, hosts(80))
	// As an agent before this one wrote it.
	before, err := ParseHolderTag("i-1 1767355200 serving sha256:" + sum(hosts(40)) + " 40")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		s    HolderTag
		live []string
		want string
	}{
		"all":               {list, []string{"b.test", "A.test", "c.test"}, ""},
		"one less":          {list, []string{"a.test"}, `"b.test"`},
		"none":              {list, nil, `"a.test"`},
		"nothing said":      {HolderTag{}, nil, ""},
		"the same many":     {long, hosts(40), ""},
		"many and one more": {long, hosts(41), ""},
		"as many others":    {long, append(hosts(39), "x.test"), "40 hosts, and for 1 of them there is"},
		"fewer":             {long, hosts(39), "for 1 of them there is"},
		"more, but others":  {long, hosts(140)[50:], "for 40 of them there is"},
		"too many, all":     {tooMany, hosts(80), ""},
		"too many, more":    {tooMany, hosts(81), "80 hosts, which are too many for its tag, are not exactly the 81"},
		"more others":       {tooMany, hosts(200)[90:], "not exactly the 110"},
		"a digest, all":     {before, hosts(40), ""},
		"a digest, others":  {before, hosts(140)[50:], "not exactly the 90"},
	} {
		if got := row.s.Missing(row.live); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func FuzzParseHolderTag(f *testing.F) {
	for _, s := range []HolderTag{NewHolderTag("i-1", noon, true, hosts(3)), NewHolderTag("i-1", noon, false, hosts(99)), NewHolderTag("i-1", noon, false, nil)} {
		f.Add(s.String())
	}
	f.Add("i-1 0 serving sha256:0123456789abcdef 1")
	f.Add("i-1 0 serving hashes:aaaabbbb")
	f.Add("i-1 0 serving a.test:,b.test")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseHolderTag(text)
		if err != nil {
			return
		}
		if s.String() != text || len(text) > maxTag {
			t.Errorf("%q is read as %+v", text, s)
		}
		if s.Missing(s.Hosts) != "" && s.Sum == "" && len(s.Hashes) == 0 {
			t.Errorf("%q does not cover itself", text)
		}
	})
}

func FuzzNewHolderTag(f *testing.F) {
	f.Add("a.test,b.test", int64(1767355200), true)
	f.Add("~^x(,y)?$", int64(0), false)
	f.Add("a.test:,a.test,::", int64(0), false)
	f.Fuzz(func(t *testing.T, list string, seconds int64, leaving bool) {
		live := strings.Split(list, ",")
		s := NewHolderTag("i-0123456789abcdef0", time.Unix(max(seconds, 0)&(1<<36-1), 0), leaving, live)
		got, err := ParseHolderTag(s.String())
		if err != nil || !got.Equal(s) || got.Missing(live) != "" {
			t.Errorf("%q: %q is read as %+v, %v; missing %q", live, s, got, err, got.Missing(live))
		}
	})
}
