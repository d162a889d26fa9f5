package labels

import (
	"fmt"
	"strings"
	"testing"
)

func TestParsers(t *testing.T) {
	tests := []struct {
		parser string
		in     string
		want   string // "" is an error
	}{
		{"host", "A.example.com., *.b.test", "[*.b.test a.example.com]"},
		{"host", "", ""},
		{"host", "a_b.test", "[a_b.test]"},
		{"host", "_.test", ""},
		{"host", ".a.test", "[*.a.test a.test]"},
		{"host", ".*.test", ""},
		{"host", "[FD00:0::1]", "[[fd00::1]]"},
		{"host", "[::ffff:10.0.0.1]", ""},
		{"host", "[fe80::1%eth0]", ""},
		{"host", "[10.0.0.1]", ""},
		{"host", ".[fd00::1]", ""},
		{"host", "a..b", ""},
		{"host", "*.*.test", ""},
		{"host", "-a.test", ""},
		{"host", "a.test\nb\r\n\tc", "[a.test b c]"},
		{"host", "*.MÜNCHEN.test", "[*.xn--mnchen-3ya.test]"},
		{"host", strings.Repeat("a", 64) + ".test", ""},
		{"host", strings.Repeat("a.", 126) + "a", "[" + strings.Repeat("a.", 126) + "a]"},
		{"host", strings.Repeat("a.", 127) + "a", ""},
		{"path", "/", "/"},
		{"path", "//", "/"},
		{"path", "/api/", "/api"},
		{"path", "/a/b.c~d", "/a/b.c~d"},
		{"path", "api", ""},
		{"path", "", ""},
		{"path", "/a//b", ""},
		{"path", "/a/../b", ""},
		{"path", "/a b", ""},
		{"path", "/a;b", ""},
		{"path", "/$uri", ""},
		{"path", "/a%2e", ""},
		{"port", "80", "80"},
		{"port", "0", ""},
		{"port", "65536", ""},
		{"port", "+80", ""},
		{"port", "", ""},
		{"size", "10M", "10485760"},
		{"size", "0", "0"},
		{"size", "1024g", "1099511627776"},
		{"size", "100MB", "104857600"},
		{"size", "1 GiB", "1073741824"},
		{"size", "1kbb", ""},
		{"size", "1025g", ""},
		{"size", "-1", ""},
		{"size", "9999999999999g", ""},
		{"wait", "90", "1m30s"},
		{"wait", "5m", "5m0s"},
		{"wait", "0s", ""},
		{"wait", "25h", ""},
		{"wait", "NaN", ""},
		{"weight", "1000", "1000"},
		{"weight", "1001", ""},
		{"file", "team", "team"},
		{"file", "../etc/passwd", ""},
		{"file", ".htpasswd", ""},
		{"allow", "10.1.2.3/8,::1", "[10.0.0.0/8 ::1/128]"},
		{"allow", "fe80::1%eth0", ""},
		{"allow", "all", ""},
		{"allow", ",", ""},
		{"health", "/up?deep=1", "/up?deep=1"},
		{"health", "/up HTTP/1.1", ""},
		{"onoff", "on", "true"},
		{"onoff", "True", "true"},
		{"onoff", "YES", "true"},
		{"onoff", "0", "false"},
		{"onoff", "yep", ""},
	}
	parsers := map[string]func(string) (any, error){
		"host": wrap(parseHosts), "path": wrap(ParsePath), "port": wrap(ParsePort), "size": wrap(parseSize),
		"wait": wrap(parseTimeout), "weight": wrap(parseWeight), "file": wrap(parseFile), "allow": wrap(parseAllow),
		"health": wrap(parseHealth), "onoff": wrap(ParseSwitch),
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %.40q", tt.parser, tt.in), func(t *testing.T) {
			got, err := parsers[tt.parser](tt.in)
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %v, want an error", got)
				}
				return
			}
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func wrap[T any](f func(string) (T, error)) func(string) (any, error) {
	return func(s string) (any, error) { return f(s) }
}

func TestNearest(t *testing.T) {
	for in, want := range map[string]string{"prot": "port", "hosts": "host", "strip_prefix": "strip-prefix", "bodysize": "body-size"} {
		if got := nearest(in); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDocsAreComplete(t *testing.T) {
	for _, d := range Docs() {
		if d.Name == "" || d.Meaning == "" || d.Allowed == "" || d.Default == "" {
			t.Errorf("incomplete: %+v", d)
		}
	}
	if first := Docs()[0].Name; first != "nagaya.host" {
		t.Errorf("the first label is %q, want the full name nagaya.host", first)
	}
}
