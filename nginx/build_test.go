package nginx

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	debian122 = `nginx version: nginx/1.22.1
built with OpenSSL 3.0.22 25 Aug 2026 (running with OpenSSL 3.0.19 27 Jan 2026)
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --with-http_ssl_module --with-http_stub_status_module --with-http_realip_module --with-http_v2_module --with-stream_ssl_module --with-stream_ssl_preread_module --with-stream_realip_module --with-stream=dynamic
`
	upstream128 = `nginx version: nginx/1.28.0
built with OpenSSL 3.0.8 7 Feb 2023
TLS SNI support enabled
configure arguments: --prefix=/etc/nginx --with-http_ssl_module --with-http_stub_status_module --with-http_realip_module --with-http_v2_module --with-http_v3_module --with-stream --with-stream_ssl_module
`
	debian130 = `nginx version: nginx/1.30.6
built by gcc 16.2.0 (Debian 16.2.0-3)
built with OpenSSL 3.6.5 29 Sep 2026
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --with-http_ssl_module --with-http_stub_status_module --with-http_realip_module --with-http_v2_module --with-http_v3_module --with-stream_ssl_module --with-stream_ssl_preread_module --with-stream_realip_module --with-stream=dynamic
`
)

func TestParseBuild(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       Build
		err        string
		old        bool
	}{
		{"Debian 12", debian122, Build{
			Version: Version{1, 22, 1}, HTTP2: true, GRPC: true,
			Stream: "dynamic", StreamRealIP: true, StreamPreread: true, StreamTLS: true,
		}, "", false},
		{"nginx.org 1.28", upstream128, Build{
			Version: Version{1, 28, 0}, HTTP2: true, HTTP3: true, GRPC: true,
			Stream: "static", StreamTLS: true, HTTP2Directive: true, KeepaliveMinTimeout: true,
		}, "", false},
		{"Debian unstable", debian130, Build{
			Version: Version{1, 30, 6}, HTTP2: true, HTTP3: true, GRPC: true,
			Stream: "dynamic", StreamRealIP: true, StreamPreread: true, StreamTLS: true,
			HTTP2Directive: true, KeepaliveMinTimeout: true, RequestPort: true, ProtocolsBySite: true,
		}, "", false},
		{"a small build", "nginx version: nginx/1.27.3 (small)\nconfigure arguments: --with-http_ssl_module --with-http_realip_module --with-http_stub_status_module\n", Build{
			Version: Version{1, 27, 3},
		}, "", false},
		{"without FastCGI", strings.Replace(debian122, "--with-stream=dynamic", "--without-http_fastcgi_module", 1), Build{
			Version: Version{1, 22, 1}, HTTP2: true, GRPC: true,
		}, "--without-http_fastcgi_module", false},
		{"without the address of clients", strings.Replace(debian122, "--with-http_realip_module", "", 1), Build{
			Version: Version{1, 22, 1}, HTTP2: true, GRPC: true, Stream: "dynamic", StreamRealIP: true, StreamPreread: true, StreamTLS: true,
		}, "--with-http_realip_module", false},
		{"too old", strings.Replace(debian122, "1.22.1", "1.18.0", 1), Build{Version: Version{1, 18, 0}}, "it is 1.18.0, needed is 1.19.5", true},
		{"just too old", strings.Replace(debian122, "1.22.1", "1.19.4", 1), Build{Version: Version{1, 19, 4}}, "needed is 1.19.5", true},
		{"without TLS", "nginx version: nginx/1.24.0\nconfigure arguments: --with-http_v2_module\n", Build{
			Version: Version{1, 24, 0}, HTTP2: true, GRPC: true,
		}, "--with-http_ssl_module", false},
		{"another program", "bash: nginx: command not found", Build{}, "has no line", false},
		{"nothing", "", Build{}, "has no line", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := ParseBuild(row.text)
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			switch {
			case row.err == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("got error %v, want one with %q", err, row.err)
			}
			if errors.Is(err, ErrTooOld) != row.old {
				t.Errorf("errors.Is(err, ErrTooOld) is %v", !row.old)
			}
		})
	}
}
