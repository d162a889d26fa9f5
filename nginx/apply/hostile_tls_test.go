package apply

import (
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// A client that has a certificate for one site, or none, reaches no other that asks for one:
// neither by the name of a request, nor without a name, nor with the session of another site.
func TestHostileClientsWithCertificates(t *testing.T) { each(t, testHostileClientsWithCertificates) }

func testHostileClientsWithCertificates(t *testing.T, r *rig) {
	r.run()
	c := &records{}
	p := writePair(t, "default.test", "cert.test", "tls.test")
	demanding := func(host string) (s nestedSite, issue func(string) *tls.Config) {
		with := p
		with.ClientCAFile, issue = authority(t)
		s = withTLS(site(host, c.recorder(t, strings.TrimSuffix(host, ".test"), host, "")), with, route.Redirect)
		s.Edge.ClientCert = "on"
		return s, issue
	}
	usual, ofDefault := demanding("default.test")
	usual.CatchAll = true
	cert, ofCert := demanding("cert.test")
	free := withTLS(site("tls.test", c.recorder(t, "tls", "tls.test", "")), p, route.Redirect)
	r.serve(r.tree(usual, cert, free))
	none := &tls.Config{}
	for _, row := range []struct {
		name        string
		with        *tls.Config
		sni, host   string
		status, got string
	}{
		{"its own", ofCert("x"), "cert.test", "cert.test", "200", "cert GET /x"},
		{"the default site's own", ofDefault("x"), "default.test", "default.test", "200", "default GET /x"},
		{"the default site's own, without a name", ofDefault("x"), "", "default.test", "200", "default GET /x"},
		{"none", none, "cert.test", "cert.test", "400", ""},
		{"another's", ofDefault("x"), "cert.test", "cert.test", "400", ""},
		{"another's, of another name", ofDefault("x"), "default.test", "cert.test", "421", ""},
		{"another's, of a name that nobody has", ofDefault("x"), "unknown.test", "cert.test", "421", ""},
		{"another's, without a name", ofDefault("x"), "", "cert.test", "421", ""},
		{"none, without a name", none, "", "cert.test", "400|421", ""},
		{"none, of a free site's name", none, "tls.test", "cert.test", "421", ""},
		{"none, for a name that nobody has", none, "unknown.test", "unknown.test", "400", ""},
		{"none, of a free site's name, for one that nobody has", none, "tls.test", "unknown.test", "421", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := attack{sent: ended(row.host, "/x"), over: row.sni}
			conn := r.dialWith(t, row.sni, row.with)
			defer conn.Close()
			io.WriteString(conn, a.sent)
			status := answers(t, conn)
			got, _ := c.heard()
			if !slices.Contains(strings.Split(row.status, "|"), status) || strings.Join(got, "; ") != row.got {
				t.Errorf("answered with %q, containers got %q, want %q and %q", status, got, row.status, row.got)
			}
		})
	}
	// A session that was begun with the certificate of one site is not gone on with at another.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		sessions := &oneSession{}
		for _, sni := range []string{"tls.test", "tls.test", "default.test", "cert.test", "tls.test", "cert.test"} {
			with := &tls.Config{ClientSessionCache: sessions, MaxVersion: version}
			if sni == "default.test" {
				with.Certificates = ofDefault("x").Certificates
			}
			conn := r.dialWith(t, sni, with)
			if _, err := io.WriteString(conn, ended(sni, "/x")); err != nil {
				t.Logf("%s, %s: %v", tls.VersionName(version), sni, err)
			}
			status, resumed := answers(t, conn), conn.ConnectionState().DidResume
			conn.Close()
			got, _ := c.heard()
			want := map[string]string{"tls.test": "200", "default.test": "200", "cert.test": "400"}[sni]
			if status != want || resumed && sni != "tls.test" {
				t.Errorf("%s: %s with %s, resumed %v, containers got %q, want %s", tls.VersionName(version), sni, status, resumed, got, want)
			}
		}
	}
}

// oneSession offers the last session to every site.
type oneSession struct{ last *tls.ClientSessionState }

func (s *oneSession) Get(string) (*tls.ClientSessionState, bool) { return s.last, s.last != nil }

func (s *oneSession) Put(_ string, last *tls.ClientSessionState) {
	if last != nil {
		s.last = last
	}
}

// dialWith connects to the public port of HTTPS, with or without a name.
func (r *rig) dialWith(t *testing.T, sni string, with *tls.Config) *tls.Conn {
	t.Helper()
	with = with.Clone()
	with.InsecureSkipVerify, with.ServerName = true, sni
	return tls.Client(r.dial(t, ":tls", ""), with)
}
