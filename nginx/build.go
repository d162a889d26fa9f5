package nginx

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Version is the version of an nginx binary.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Patch int `json:"patch"`
}

// MinVersion is the oldest nginx that is accepted. ssl_reject_handshake came
// with 1.19.4 (nginx.org, ngx_http_ssl_module), the -e flag, which keeps a start
// from touching the distribution's error log, with 1.19.5 (nginx.org, switches).
var MinVersion = Version{1, 19, 5}

// atLeast reports whether v is o or newer.
func (v Version) atLeast(o Version) bool {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Patch, o.Patch)) >= 0
}

// String returns the version as nginx prints it, e.g. "1.22.1".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
}

// Build is what an nginx binary can do, read from its version and its
// configure arguments.
type Build struct {
	Version Version `json:"version"`
	// HTTP2 and HTTP3: with the v2 and v3 modules.
	HTTP2 bool `json:"http2"`
	HTTP3 bool `json:"http3"`
	// GRPC: with the grpc module, which needs the v2 module.
	GRPC bool `json:"grpc"`
	// Stream is how the stream module was built: "", "static" or "dynamic".
	Stream string `json:"stream"`
	// StreamRealIP and StreamPreread: with these parts of the stream module.
	StreamRealIP  bool `json:"stream_real_ip"`
	StreamPreread bool `json:"stream_preread"`
	StreamTLS     bool `json:"stream_tls"`
	// StreamModule is the file to load for a dynamic stream module; runtime.Detect finds it.
	StreamModule string `json:"stream_module,omitempty"`
	// HTTP2Directive: "http2 on" instead of a parameter of listen (nginx.org, 1.25.1).
	HTTP2Directive bool `json:"http2_directive"`
	// KeepaliveMinTimeout: idle connections stay open for a while after a reload (nginx.org, 1.27.4).
	KeepaliveMinTimeout bool `json:"keepalive_min_timeout"`
	// RequestPort: a variable has the port of the request's host, over HTTP/3 too, where
	// $http_host is empty (nginx.org, 1.29.3).
	RequestPort bool `json:"request_port"`
	// ProtocolsBySite: ssl_protocols of a site takes effect, not only that of the port's
	// default server (nginx.org, 1.29.2).
	ProtocolsBySite bool `json:"protocols_by_site"`
}

// ErrTooOld is wrapped by ParseBuild's error for an nginx older than MinVersion.
var ErrTooOld = errors.New("nginx is too old")

var versionLine = regexp.MustCompile(`(?m)^(?:nginx|openresty|tengine) version: [A-Za-z]+/(\d{1,4})\.(\d{1,4})\.(\d{1,6})`)

// ParseBuild parses the output of "nginx -V". The error says what is wrong with
// the binary and what to install; it wraps ErrTooOld for an old one. The returned Build then
// has the version.
func ParseBuild(text string) (Build, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return Build{}, fmt.Errorf("the output of nginx -V has no line %q but begins %q", "nginx version: nginx/1.2.3", text[:min(len(text), 80)])
	}
	var b Build
	b.Version.Major, _ = strconv.Atoi(m[1]) // at most six digits, so it cannot fail
	b.Version.Minor, _ = strconv.Atoi(m[2])
	b.Version.Patch, _ = strconv.Atoi(m[3])
	if !b.Version.atLeast(MinVersion) {
		return b, fmt.Errorf("%w: it is %v, needed is %v or newer; install a current nginx, e.g. from nginx.org", ErrTooOld, b.Version, MinVersion)
	}
	_, arguments, _ := strings.Cut(text, "configure arguments:")
	has := map[string]bool{}
	for word := range strings.FieldsSeq(arguments) {
		has[word] = true
	}
	b.HTTP2 = has["--with-http_v2_module"]
	b.HTTP3 = has["--with-http_v3_module"]
	b.GRPC = b.HTTP2 && !has["--without-http_grpc_module"]
	switch {
	case has["--without-stream_limit_conn_module"]:
		// Without it one port's clients could take all connections.
	case has["--with-stream=dynamic"]:
		b.Stream = "dynamic"
	case has["--with-stream"]:
		b.Stream = "static"
	}
	b.StreamRealIP = b.Stream != "" && has["--with-stream_realip_module"]
	b.StreamPreread = b.Stream != "" && has["--with-stream_ssl_preread_module"]
	b.StreamTLS = b.Stream != "" && has["--with-stream_ssl_module"]
	b.HTTP2Directive = b.HTTP2 && b.Version.atLeast(Version{1, 25, 1})
	b.ProtocolsBySite = b.Version.atLeast(Version{1, 29, 2})
	b.RequestPort = b.Version.atLeast(Version{1, 29, 3})
	b.KeepaliveMinTimeout = b.Version.atLeast(Version{1, 27, 4})
	for _, module := range []string{"ssl", "realip", "stub_status"} {
		if argument := "--with-http_" + module + "_module"; !has[argument] {
			return b, fmt.Errorf("nginx %v was built without %s; install a build that has it, e.g. the distribution's package", b.Version, argument)
		}
	}
	for _, module := range []string{"fastcgi", "uwsgi", "scgi"} {
		if argument := "--without-http_" + module + "_module"; has[argument] {
			return b, fmt.Errorf("nginx %v was built with %s; install a build without that, e.g. the distribution's package", b.Version, argument)
		}
	}
	return b, nil
}
