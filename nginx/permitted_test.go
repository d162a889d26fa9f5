package nginx

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// permitted are the directives and parameters that the files of a site or a stream may have,
// by the table alone.
type permitted struct {
	s         Settings
	host      string
	locations []route.Location
	options   []route.StreamOptions
	servers   []route.Server
	keepalive []int
	allow     []netip.Prefix
	edge      route.Edge
	files     []string // certificates and keys
	ports     []uint16
	catchAll  bool
	upstreams []string // those that the same file has
}

// permittedIn returns what a file may have; ok is false when the table has nothing for it.
func permittedIn(s Settings, table route.Table, f SiteFile) (w permitted, ok bool) {
	w = permitted{s: s, host: f.Host}
	for _, site := range table.Sites {
		c := site.Cert
		if site.Host == f.Host {
			w.locations, w.edge, w.allow, w.catchAll = site.Locations, site.Edge, site.Edge.Allow, site.CatchAll
			w.files = []string{c.CertFile, c.KeyFile, c.DHParamFile, c.ClientCAFile, c.CRLFile, site.Beside.CertFile, site.Beside.KeyFile}
			w.ports = []uint16{cmp.Or(site.Edge.HTTPPort, s.HTTPPort), cmp.Or(site.Edge.HTTPSPort, s.HTTPSPort)}
			if site.Passthrough != nil {
				w.options = append(w.options, *site.Passthrough)
				w.servers = append(w.servers, table.Pools[site.PassthroughKey()].Servers...)
			}
			for _, l := range site.Locations {
				p := table.Pools[site.PoolKey(l)]
				w.servers, w.keepalive = append(w.servers, p.Servers...), append(w.keepalive, l.KeepaliveFor(p))
			}
			ok = true
		}
		ports := map[string]uint16{"http": site.Edge.HTTPPort, "https": site.Edge.HTTPSPort}
		if site.TLS && (site.Edge.HTTP3 == route.On || s.HTTP3) {
			ports["quic"] = cmp.Or(site.Edge.HTTPSPort, s.HTTPSPort)
		}
		for kind, p := range ports {
			if f.Host == fmt.Sprintf("%s:%d", kind, p) {
				w.ports, ok = []uint16{p}, true
			}
		}
	}
	for _, st := range table.Streams {
		if st.Listen.String() == f.Host {
			w.options, w.servers = []route.StreamOptions{st.StreamOptions}, table.Pools[st.PoolKey()].Servers
			w.ports, w.files = []uint16{st.Listen.Port}, []string{st.Cert.CertFile, st.Cert.KeyFile}
			ok = true
		}
	}
	for _, o := range w.options {
		w.allow = append(w.allow, o.Allow...)
	}
	for _, l := range w.locations {
		w.allow = append(w.allow, l.Allow...)
	}
	return w, ok
}

// constant are the parameters that directives may have for every table, as expressions for
// all of them with spaces between.
var constant = func() map[string]*regexp.Regexp {
	all := map[string]string{
		"upstream/least_conn": "", "upstream/ip_hash": "", "upstream/hash": `\$remote_addr consistent`,
		"upstream/keepalive_timeout":  "1s",
		"server/server_tokens":        "on",
		"server/error_page":           "502 = @nagaya_down|504 @nagaya_down|59(8 = @nagaya_challenge|7 = @nagaya_token)",
		"server/http2":                "on|off",
		"server/ssl_verify_client":    "on|optional",
		"server/ssl_reject_handshake": "on", "server/ssl_prefer_server_ciphers": "on|off",
		"server/return":           "404 No site of this name is served here.\n|421 " + misdirectedPage + "|",
		"server/deny":             "all",
		"server/if/return":        "421 " + misdirectedPage + "|598|403 " + plainPage + `|30[178] https://\$host(:[0-9]{1,5})?\$request_uri`,
		"server/if":               `\(\$nagaya_(misdirected|challenge|plain|plain = get|plain = other)\)`,
		"server/set_real_ip_from": "unix:", "server/proxy_protocol": "on",
		"server/add_header":       `Strict-Transport-Security \$nagaya_hsts_[0-9a-f]{16} always|Alt-Svc h3=":[0-9]{1,5}"; ma=86400;? always`,
		"server/location/satisfy": "any", "server/location/root": "/dev/null", "server/location/try_files": `\$uri (=404|@nagaya_debug)`, "server/location/default_type": "application/json",
		"map/default":        "",
		"server/location/if": `\(\$nagaya_get\)|\(\$upstream_connect_time ~ \^\[-,: \]\+\$ \)`, "server/location/deny": "all",
		"server/location/add_header":    `Retry-After 5 always|Strict-Transport-Security \$nagaya_hsts_[0-9a-f]{16} always|Alt-Svc h3=":[0-9]{1,5}"; ma=86400;? always`,
		"server/location/if/return":     "503 " + downPage + "|503 " + vacantPage,
		"server/location/if/add_header": `Retry-After 5 always|Strict-Transport-Security \$nagaya_hsts_[0-9a-f]{16} always|Alt-Svc h3=":[0-9]{1,5}"; ma=86400;? always`,
		"server/location/return":        "404 " + nothingPage + "|502 " + brokenPage + "|503 " + vacantPage,
		"server/location/fastcgi_index": `index\.php`, "server/location/fastcgi_split_path_info": `\^\(\.\+\\\.php\)\(/\.\*\)\$`,
		"/map": `\$nagaya_https \$nagaya_hsts_[0-9a-f]{16}`, "/server": "",
	}
	for _, k := range []string{"proxy", "fastcgi", "uwsgi"} {
		all["server/location/"+k+"_buffering"], all["server/location/"+k+"_request_buffering"] = "off", "off"
	}
	for _, k := range []string{"proxy", "grpc"} {
		all["server/location/"+k+"_ssl_verify"], all["server/location/"+k+"_ssl_verify_depth"] = "on", "3"
	}
	out := map[string]*regexp.Regexp{}
	for at, words := range all {
		out[at] = regexp.MustCompile("^(?:" + words + ")$")
	}
	return out
}()

var (
	ourUpstream = regexp.MustCompile(`^nagaya_[a-z0-9._-]+$`)
	ourValue    = regexp.MustCompile(`^(\$(nagaya_[a-z_]+|host|request_uri|remote_addr|remote_port|query_string|request_method|content_type|content_length|` +
		`fastcgi_script_name|fastcgi_path_info|document_uri|server_protocol|http_upgrade)|CGI/1\.1|nginx|200|if_not_empty|)*$`)
	ourName = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]*$`)
)

// allows reports whether the table permits a directive.
func (w *permitted) allows(d directive) bool {
	at, words := d.in+"/"+d.name, strings.Join(d.args, " ")
	if re := constant[at]; re != nil && re.MatchString(words) {
		return true
	}
	one := ""
	if len(d.args) == 1 {
		one = d.args[0]
	}
	switch at {
	case "/upstream":
		w.upstreams = append(w.upstreams, one)
		return ourUpstream.MatchString(one)
	case "upstream/server":
		return w.server(d.args)
	case "upstream/keepalive":
		n, err := strconv.Atoi(one)
		return err == nil && (n == 8 || slices.Contains(w.keepalive, n))
	case "map/on":
		return one == w.edge.HSTS && one != ""
	case "server/listen":
		return w.listen(d.args)
	case "server/server_name":
		return words == noName || d.args[0] == w.host && (len(d.args) == 1 || w.catchAll && slices.Equal(d.args[1:], []string{"", "~^"}))
	case "server/ssl_certificate", "server/ssl_certificate_key", "server/ssl_dhparam", "server/ssl_client_certificate", "server/ssl_crl":
		return one != "" && slices.Contains(w.files, one)
	case "server/ssl_protocols", "server/ssl_ciphers":
		p, ok := config.PolicyNamed(w.edge.TLSPolicy)
		return ok && w.edge.TLSPolicy != "" && (slices.Equal(d.args, p.Protocols) || one == p.Ciphers)
	case "server/allow", "server/location/allow":
		return one == "all" && d.in == "server/location" && w.s.ChallengeDir != "" || one == "255.255.255.255/32" || slices.ContainsFunc(w.allow, func(p netip.Prefix) bool { return p.Masked().String() == one })
	case "server/limit_conn":
		return words == "nagaya_udp 1024" || words == "nagaya_udp_port 512"
	case "server/proxy_timeout":
		return slices.ContainsFunc(w.options, func(o route.StreamOptions) bool { return isDuration(one, o.Timeout) })
	case "server/proxy_pass":
		return slices.Contains(w.upstreams, one)
	case "server/location/return":
		return len(d.args) == 2 && d.args[0] == "200" && isDebugAnswer(d.args[1])
	case "server/location":
		return w.path(d.args)
	}
	return strings.HasPrefix(at, "server/location/") && w.inLocation(d, one)
}

func (w *permitted) inLocation(d directive, one string) bool {
	any := func(is func(route.Location) bool) bool { return slices.ContainsFunc(w.locations, is) }
	base := func(l route.Location) string { return strings.TrimRight(l.Path, "/") }
	kind, word, _ := strings.Cut(d.name, "_")
	switch {
	case d.in == "server/location/if" && d.name == "return":
		return len(d.args) == 2 && d.args[0] == "301" && any(func(l route.Location) bool { return d.args[1] == base(l)+"/$is_args$args" })
	case d.in != "server/location":
		return false
	case d.name == "if":
		file, ok := strings.CutPrefix(strings.Join(d.args, " "), "(-f "+w.s.StateDir+"/gone/")
		return ok && ourUpstream.MatchString(strings.TrimRight(file, " )"))
	case d.name == "auth_basic":
		return one == "site "+w.host || strings.HasPrefix(w.host, "~") && regexp.MustCompile(`^site [0-9a-f]{16}$`).MatchString(one)
	case d.name == "auth_basic_user_file":
		return any(func(l route.Location) bool {
			return l.Auth != "" && !strings.Contains(l.Auth, "/") && one == w.s.HtpasswdDir+"/"+l.Auth
		})
	case d.name == "client_max_body_size":
		return any(func(l route.Location) bool { return one == strconv.FormatInt(l.BodySize, 10) })
	case d.name == "rewrite":
		return len(d.args) == 3 && d.args[2] == "break" && any(func(l route.Location) bool {
			from, to := d.args[0], strings.TrimSuffix(d.args[1], "$1")
			return strings.HasPrefix(from, "(?s)^"+regexp.QuoteMeta(base(l))) && to != d.args[1] && (to == "/" || l.Dest != "" && strings.TrimRight(to, "/") == strings.TrimRight(l.Dest, "/"))
		})
	case !slices.Contains([]string{"proxy", "grpc", "fastcgi", "uwsgi", "client"}, kind):
		return false
	}
	switch word {
	case "read_timeout", "send_timeout", "body_timeout":
		return any(func(l route.Location) bool { return isDuration(one, l.Timeout) })
	case "ssl_name":
		return any(func(l route.Location) bool { return l.ServerName == one })
	case "ssl_trusted_certificate":
		return one == w.s.UpstreamCA
	case "pass":
		scheme, rest, has := strings.Cut(one, "://")
		if !has {
			scheme, rest = "", one
		}
		name, dest, moved := strings.Cut(rest, "/")
		return slices.Contains(w.upstreams, name) && any(func(l route.Location) bool {
			return (scheme == string(l.Scheme) || scheme == "" && kind == string(l.Scheme)) && (!moved || dest == "" || "/"+dest == l.Dest)
		})
	case "set_header", "param":
		if len(d.args) < 2 || len(d.args) > 3 || !ourName.MatchString(d.args[0]) || len(d.args) == 3 && d.args[2] != "if_not_empty" {
			return false
		}
		v := d.args[1]
		return ourValue.MatchString(v) || any(func(l route.Location) bool {
			root := cmp.Or(l.Root, "/var/www/html")
			return v == base(l) || v == l.Path || v == root || v == root+"$fastcgi_script_name"
		})
	}
	return false
}

func (w *permitted) server(args []string) bool {
	weight := 1
	if len(args) == 2 {
		n, err := strconv.Atoi(strings.TrimPrefix(args[1], "weight="))
		if err != nil || n < 2 {
			return false
		}
		weight = n
	}
	return len(args) <= 2 && slices.ContainsFunc(w.servers, func(s route.Server) bool { return s.Addr.String() == args[0] && max(1, s.Weight) == weight })
}

func (w *permitted) listen(args []string) bool {
	at := strings.TrimPrefix(args[0], "[::]:")
	port, err := strconv.ParseUint(at, 10, 16)
	if !(err == nil && slices.Contains(w.ports, uint16(port))) && !strings.HasPrefix(at, "unix:"+w.s.RunDir+"/") {
		return false
	}
	return !slices.ContainsFunc(args[1:], func(a string) bool {
		return !slices.Contains([]string{"ssl", "http2", "quic", "udp", "reuseport", "default_server", "proxy_protocol"}, a)
	})
}

func (w *permitted) path(args []string) bool {
	words := strings.Join(args, " ")
	if words == "/" || words == downLocation || words == challengeName || words == "= "+nginxproxy.DebugPath || words == debugName {
		return true
	}
	return slices.ContainsFunc(w.locations, func(l route.Location) bool {
		base := strings.TrimRight(l.Path, "/")
		return slices.Contains(map[route.Match][]string{
			route.Segments: {"= " + base, base + "/"}, route.Prefix: {l.Path}, route.Exact: {"= " + l.Path},
			route.Regex: {"~ " + l.Path}, route.RegexFold: {"~* " + l.Path},
		}[l.Match], words)
	})
}

// isDebugAnswer reports whether a text is JSON, with variables in the part about the request alone.
func isDebugAnswer(text string) bool {
	site, _, ok := strings.Cut(text, `,"request":{"host":"$host",`)
	return ok && !strings.Contains(site, "$") && json.Valid([]byte(text))
}

// isDuration reports whether nginx reads that word as that duration, to the millisecond.
func isDuration(word string, d time.Duration) bool {
	got, err := time.ParseDuration(word)
	return err == nil && got == max(time.Millisecond, d.Truncate(time.Millisecond))
}

// checkPermitted fails when a file of the tree says what the table does not permitted,
// and when two files meet in a name.
func checkPermitted(t *testing.T, s Settings, table route.Table, tree Tree) {
	t.Helper()
	owner, names := map[string]string{}, map[string]bool{}
	for _, f := range tree.Sites {
		w, ok := permittedIn(s, table, f)
		if !ok {
			t.Errorf("the table has nothing for the file %s", f.Name)
			continue
		}
		if strings.ContainsAny(f.Name, "/\x00*") || strings.HasPrefix(f.Name, ".") || len(f.Name) > 255 || names[f.Name] {
			t.Errorf("file name %q", f.Name)
		}
		names[f.Name] = true
		for _, text := range []string{f.Text, f.Stream} {
			ds, err := readTokens(text)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			for _, d := range ds {
				if !w.allows(d) {
					t.Errorf("the table does not permitted %q with %q in %q of %s:\n%s", d.name, d.args, d.in, f.Host, text)
				}
			}
		}
		if f.SNI != "" {
			ds, err := readTokens(f.SNI)
			if err != nil || len(ds) != 1 || strings.TrimPrefix(ds[0].name, `\`) != f.Host || len(ds[0].args) != 1 || !strings.HasPrefix(ds[0].args[0], "unix:"+s.RunDir+"/") {
				t.Errorf("line of the map for %s: %q, %v", f.Host, f.SNI, err)
			}
		}
		for _, u := range w.upstreams {
			if was, taken := owner[u]; taken {
				t.Errorf("%s and %s both have an upstream %s", was, f.Host, u)
			}
			owner[u] = f.Host
		}
	}
}

// checkPermitted fails for each directive that the table does not permit.
func TestPermittedFindsMore(t *testing.T) {
	both, _ := tableWith("web", false, pair, hostileLabels[0]+"\nnagaya.auth=staff\nnagaya.ssh.listen=tcp:2222")
	s := defaults()
	tree := Render(s, mustBuild(debian122), both.Shape, both.Pools)
	for _, row := range []struct{ file, was, is string }{
		{"a.example.com", "", "include /etc/passwd;\n"},
		{"a.example.com", "server {", "server { root /; "},
		{"a.example.com", "server_name a.example.com", "server_name a.example.com victim.test"},
		{"a.example.com", "server 10.0.0.5:32769", "server 10.0.0.6:32769"},
		{"a.example.com", "listen 443", "listen 444"},
		{"a.example.com", "listen 443 ssl", "listen 443 ssl default_server bind"},
		{"a.example.com", pair.KeyFile, "/etc/ssl/private/other.key"},
		{"a.example.com", s.HtpasswdDir + "/staff", "/etc/shadow"},
		{"a.example.com", "location = /api", "location = /other"},
		{"a.example.com", "location /api/", "location ~ /api/"},
		{"a.example.com", `proxy_pass http://nagaya_http_a.example.com`, "proxy_pass http://nagaya_http_victim.test"},
		{"a.example.com", "proxy_read_timeout 60s", "proxy_read_timeout 61s"},
		{"a.example.com", "client_max_body_size 1048576", "client_max_body_size 0"},
		{"a.example.com", `X-Forwarded-Prefix /api`, "X-Forwarded-Prefix $http_cookie"},
		{"a.example.com", `on "max-age=1; preload"`, "on $http_cookie"},
		{"a.example.com", "return 503", "return 200"},
		{"a.example.com", "deny all", "satisfy any"},
		{"tcp:2222", "listen 2222", "listen 22"},
		{"tcp:2222", "proxy_pass nagaya_tcp_2222", "proxy_pass unix:/var/run/docker.sock"},
		{"victim.test", "10.0.0.5:32768", "10.0.0.5:32770"},
	} {
		f, ok := tree.Site(row.file)
		if !ok {
			t.Fatalf("there is no file of %s", row.file)
		}
		text := &f.Text
		if f.Text == "" {
			text = &f.Stream
		}
		if row.was == "return 503" || row.was == "deny all" {
			*text += "server { location / { " + row.is + "; } }\n"
		} else if !strings.Contains(*text, row.was) {
			t.Errorf("%q is not in\n%s", row.was, *text)
		}
		*text = strings.Replace(*text, row.was, row.is, 1)
		ds, err := readTokens(*text)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := permittedIn(s, both, f)
		if !slices.ContainsFunc(ds, func(d directive) bool { return !w.allows(d) }) {
			t.Errorf("%q instead of %q is permitted", row.is, row.was)
		}
	}
}
