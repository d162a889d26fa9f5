package nginx

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", `a"; }`, `\`, `\\"`, "x\ny", `\n`, "{", "'", "#", "a b", "$x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := readTokens("d " + quote(s) + ";")
		if err != nil || len(got) != 1 || len(got[0].args) != 1 || got[0].args[0] != s {
			t.Errorf("quote(%q) = %s is read as %v, %v", s, quote(s), got, err)
		}
	})
}

// expected are the directives that a site's file may hold, by the block that
// they are in.
var expected = map[string][]string{
	"":         {"upstream", "server"},
	"upstream": {"least_conn", "ip_hash", "server", "keepalive", "keepalive_timeout"},
	"server": {
		"listen", "server_name", "ssl_certificate", "ssl_certificate_key", "if", "error_page", "location",
	},
	"server/if":          {"return"},
	"server/location/if": {"return", "add_header"},
	"server/location": {
		"if", "add_header", "return", "allow", "deny", "auth_basic", "auth_basic_user_file", "client_max_body_size", "client_body_timeout",
		"proxy_read_timeout", "proxy_send_timeout", "proxy_buffering", "proxy_request_buffering", "proxy_pass", "proxy_set_header",
		"grpc_read_timeout", "grpc_send_timeout", "grpc_pass", "grpc_set_header", "rewrite",
		"fastcgi_read_timeout", "fastcgi_send_timeout", "fastcgi_buffering", "fastcgi_request_buffering", "fastcgi_pass", "fastcgi_param",
		"fastcgi_index", "fastcgi_split_path_info",
	},
}

// ourVariable are the variables that a rendered value may hold.
var ourVariable = regexp.MustCompile(`^\$(nagaya_\w+|host|request_uri|is_args|args|remote_addr|remote_port|server_protocol|` +
	`query_string|request_method|content_type|content_length|fastcgi_script_name|fastcgi_path_info|document_uri|http_upgrade|1)`)

func FuzzRender(f *testing.F) {
	f.Add("a.example.com", "web", "/", "http", "round-robin", "redirect", "/c/a.crt", "aa", "staff", "10.0.0.1:80", "10.0.0.0/8", int64(1), int64(1), true)
	f.Add("*.example.com", "x\n}", "/app", "grpcs", "ip-hash", "refuse", "/c/$a.crt", "zz", "../x", "[::1]:80", "::/0", int64(0), int64(0), false)
	f.Add("a.test; return 200 injected; } server { listen 9999;", "web", "/a{b}", "fastcgi", "least-conn", "serve", "a", "", "", "x", "", int64(-1), int64(5), true)
	f.Add("a", "web", "/a;b'c(d)*$host", "https", "", "serve", "/a\"b", "", "a b", "10.0.0.1:0", "10.0.0.0/8", int64(9), int64(1e6), false)
	f.Fuzz(func(t *testing.T, host, family, path, scheme, balance, plain, cert, fingerprint, auth, addr, allow string, body, timeout int64, flag bool) {
		l := nestedLocation{Location: route.Location{
			Path: path, StripPrefix: flag, Scheme: route.Scheme(scheme), Balance: route.Balance(balance),
			BodySize: body, Timeout: time.Duration(timeout), Buffering: flag, Auth: auth,
		}}
		if a, err := netip.ParseAddrPort(addr); err == nil {
			l.Servers = []route.Server{{Addr: a, Weight: int(body), Container: host, Ref: family}}
		}
		if p, err := netip.ParsePrefix(allow); err == nil {
			l.Allow = []netip.Prefix{p}
		}
		site := nestedSite{
			Host: host, Family: family, TLS: flag, Plain: route.Plain(plain), Locations: []nestedLocation{l},
			Cert: certs.Pair{Name: family, CertFile: cert, KeyFile: cert, Fingerprint: fingerprint},
		}
		for _, b := range []Build{mustBuild(debian122), {Version: MinVersion}} {
			shape, pools := flat([]nestedSite{site}, nil)
			tree := Render(defaults(), b, shape, pools)
			if len(tree.Sites)+len(tree.Problems) != 1 {
				t.Fatalf("%d sites and %d problems of one site", len(tree.Sites), len(tree.Problems))
			}
			for _, s := range tree.Sites {
				checkDirectives(t, s)
			}
			if _, err := readTokens(tree.Main); err != nil {
				t.Errorf("main file: %v", err)
			}
			for _, p := range tree.Problems {
				if len(p.Text) > 2048 || len(p.Subject) > 600 || strings.ContainsAny(p.Text+p.Subject, "\n\r\x1b") {
					t.Errorf("problem is not bounded and printable: %+v", p)
				}
			}
		}
	})
}

func checkDirectives(t *testing.T, s SiteFile) {
	t.Helper()
	if strings.ContainsAny(s.Name, "/\x00*") || strings.HasPrefix(s.Name, ".") || len(s.Name) > 255 {
		t.Errorf("file name %q", s.Name)
	}
	ds, err := readTokens(s.Text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, s.Text)
	}
	servers := 0
	for _, d := range ds {
		if !slices.Contains(expected[d.in], d.name) {
			t.Errorf("directive %s in %q:\n%s", d.name, d.in, s.Text)
		}
		if d.name == "server" && d.in == "" {
			servers++
		}
		for _, a := range d.args {
			for i := range len(a) {
				// A '$' at the very end is a regular expression's.
				if a[i] == '$' && i+1 < len(a) && !ourVariable.MatchString(a[i:]) && d.name != "if" {
					t.Errorf("variable %q in %s", a[i:], d.name)
				}
			}
		}
	}
	if servers != 1 {
		t.Errorf("%d server sections:\n%s", servers, s.Text)
	}
}
