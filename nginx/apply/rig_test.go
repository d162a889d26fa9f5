package apply

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
)

// rig is an nginx on high ports in a directory of its own, and its agent.
type rig struct {
	t        testing.TB
	o        options
	settings nginx.Settings
	wanted   trees
	statuses chan nginx.Status
	last     nginx.Status
	cancel   context.CancelFunc
	ended    chan error
}

// options are those of a rig's nginx.
type options struct {
	runtime.Options
	Limits
	Build                    nginx.Build
	StateDir, RunDir, LogDir string
	Reopen                   chan struct{}
	note                     *notes // may be nil
	thief                    *thief // may be nil
}

// runtime returns what runs the nginx of these options.
func (o options) runtime(t testing.TB) Runtime {
	t.Helper()
	o.Options.Dirs = o.dirs()
	r, done, err := runtime.New(o.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return r
}

// forRun are the options of Run.
func (o options) forRun(t testing.TB) Options {
	run := o.runtime(t)
	if o.note != nil {
		o.note.Runtime, o.note.dirs, run = run, o.dirs(), o.note
	}
	if o.thief != nil {
		o.thief.Runtime, o.thief.dirs, run = run, o.dirs(), o.thief
	}
	return Options{Runtime: run, Dirs: o.dirs(), Pacer: atOnce{}, Limits: o.Limits, Reopen: o.Reopen, Log: o.Log}
}

// atOnce is the Pacer that never waits.
type atOnce struct{}

func (atOnce) Want(time.Time, nginx.Tree, nginx.Wanted) {}
func (atOnce) Wait(time.Time) time.Duration             { return 0 }
func (atOnce) Loaded(time.Time)                         {}

// trees is a slot of wanted trees.
type trees struct{ *latest.Slot[nginx.Wanted] }

func newTrees() trees { return trees{latest.New[nginx.Wanted]()} }

func (t trees) Put(tree nginx.Tree) { t.Slot.Put(nginx.Wanted{Tree: tree}) }

// stop ends the nginx of these options.
func (o options) stop(t testing.TB, ctx context.Context) error {
	t.Helper()
	o.Options.Dirs = o.dirs()
	return Stop(ctx, o.dirs(), func(ctx context.Context) error { return runtime.Stop(ctx, o.Options) })
}

func (o options) dirs() nginx.Dirs {
	return nginx.Dirs{State: o.StateDir, Run: o.RunDir, Log: o.LogDir}
}

// find returns the number of the rig's master, or 0.
func (r *rig) find() int { return r.o.runtime(r.t).Find(context.Background()).Master }

// workersOf returns a master's workers.
func (r *rig) workersOf(master int) nginx.Workers { return r.o.runtime(r.t).Workers(master) }

// newRig prepares everything for the installed nginx and starts nothing.
func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOf(t, nginxtest.Installed(t))
}

// newRigOf is newRig for another nginx.
func newRigOf(t testing.TB, n nginxtest.Nginx) *rig {
	t.Helper()
	build, err := runtime.Detect(t.Context(), runtime.Options{Binary: n.Binary})
	if err != nil {
		t.Fatal(err)
	}
	// t.TempDir has the test's long name in it, and a socket's path must be short.
	dir, err := os.MkdirTemp("", "ngx")
	if err != nil {
		t.Fatal(err)
	}
	testenv.EndWithTest(dir)
	r := &rig{t: t, settings: nginx.Settings{Nginx: config.Nginx{HTTP2: true}}}
	s := &r.settings
	s.StateDir, s.RunDir, s.LogDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "log")
	s.SnippetDir, s.HtpasswdDir = filepath.Join(dir, "etc"), filepath.Join(dir, "etc")
	s.HTTPPort, s.HTTPSPort = freePort(t), freePort(t)
	s.AccessLog, s.UpstreamCA, s.ShutdownTimeout = filepath.Join(s.LogDir, "access.log"), "/etc/ssl/certs/ca-certificates.crt", 4*time.Minute
	s.WorkerProcesses = 2
	if os.Geteuid() == 0 {
		s.User = "root" // the default one may not enter the test's directory
	}
	for _, d := range []string{"http.d", "site.d"} {
		if err := os.MkdirAll(filepath.Join(s.SnippetDir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.o = options{Build: build, StateDir: s.StateDir, RunDir: s.RunDir, LogDir: s.LogDir}
	r.o.Binary = n.Binary
	if testing.Verbose() {
		r.o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	t.Cleanup(func() {
		r.crash()
		if pid := r.find(); pid != 0 {
			unix.Kill(pid, unix.SIGTERM)
			awaitExit(t, pid)
		}
		for _, pid := range proc.Holders(proc.UnixSockets(nginx.Socket(r.o.RunDir))) {
			unix.Kill(pid, unix.SIGKILL) // a worker without a master
		}
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(s.LogDir, "error.log"))
			t.Logf("error.log:\n%s", b)
		}
		os.RemoveAll(dir)
	})
	return r
}

func awaitExit(t testing.TB, pid int) {
	t.Helper()
	gone, stop := proc.Watch(pid)
	defer stop()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Errorf("process %d did not end", pid)
	}
}

// portsGiven are the ports that freePort has returned, so that it returns none twice.
var portsGiven sync.Map

func freePort(t testing.TB) uint16 {
	t.Helper()
	for range 100 {
		// Below Linux's range for outgoing connections, which could take it meanwhile,
		// and beside the ports of the end-to-end tests, which run at the same time.
		port := uint16(10000 + mathrand.IntN(10000))
		if _, given := portsGiven.LoadOrStore(port, true); given {
			continue
		}
		at := fmt.Sprintf("0.0.0.0:%d", port)
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		l.Close()
		if p, err := net.ListenPacket("udp", at); err == nil {
			p.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// run starts Run.
func (r *rig) run() {
	r.t.Helper()
	r.wanted, r.statuses, r.ended, r.last = newTrees(), make(chan nginx.Status, 1000), make(chan error, 1), nginx.Status{}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	wanted, statuses, ended, o := r.wanted, r.statuses, r.ended, r.o.forRun(r.t)
	go func() {
		ended <- Run(ctx, o, wanted.C(), func(s nginx.Status) { statuses <- s })
	}()
}

// crash ends Run and leaves nginx running, as a killed agent would.
func (r *rig) crash() {
	r.t.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(30 * time.Second):
		r.t.Error("Run did not end with its context")
	}
}

// await reads statuses until is returns true for one.
func (r *rig) await(what string, is func(nginx.Status) bool) nginx.Status {
	r.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case r.last = <-r.statuses:
			if is(r.last) {
				return r.last
			}
		case err := <-r.ended:
			r.t.Fatalf("%s: Run ended with %v", what, err)
		case <-limit:
			r.t.Fatalf("%s: never came; last status %+v", what, r.last)
		}
	}
}

// serve puts a wanted tree and waits until it is served, and all of it has been tried.
func (r *rig) serve(tree nginx.Tree) nginx.Status {
	r.t.Helper()
	r.wanted.Put(tree)
	return r.await("generation "+tree.Generation, func(s nginx.Status) bool {
		return s.Wanted == tree.Generation && s.Settled && !waits(s)
	})
}

// waits reports whether sites are still to be tried.
func waits(s nginx.Status) bool {
	return slices.ContainsFunc(s.Quarantined, func(q nginx.Quarantine) bool { return q.Waiting })
}

func (r *rig) tree(sites ...nestedSite) nginx.Tree {
	r.t.Helper()
	tree := render(r.settings, r.o.Build, nestedTable{Sites: sites})
	if len(tree.Problems) > 0 {
		r.t.Fatalf("rendering: %v", tree.Problems)
	}
	return tree
}

// client connects to the nginx under test for every host.
func (r *rig) client() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(addr)
				return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (r *rig) http(host, path string) string {
	return fmt.Sprintf("http://%s:%d%s", host, r.settings.HTTPPort, path)
}

func (r *rig) https(host, path string) string {
	return fmt.Sprintf("https://%s:%d%s", host, r.settings.HTTPSPort, path)
}

// answer is a response that is small enough to be a value.
type answer struct {
	status int
	body   string
	header http.Header
}

func (r *rig) do(req *http.Request) answer {
	r.t.Helper()
	c := r.client()
	defer c.CloseIdleConnections()
	res, err := c.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	return answer{res.StatusCode, string(b), res.Header}
}

func (r *rig) get(url string) answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(req)
}

func (r *rig) expect(url string, status int, body string) {
	r.t.Helper()
	if a := r.get(url); a.status != status || !strings.Contains(a.body, body) {
		r.t.Errorf("GET %s: %d %q, want %d with %q", url, a.status, a.body, status, body)
	}
}

// backend starts a server that answers every request with text.
func backend(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	return addrOf(s)
}

func addrOf(s *httptest.Server) netip.AddrPort {
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func site(host string, addrs ...netip.AddrPort) nestedSite {
	return nestedSite{Host: host, Family: host, Plain: route.Serve, Locations: []nestedLocation{spot("/", addrs...)}}
}

func spot(path string, addrs ...netip.AddrPort) nestedLocation {
	l := nestedLocation{Location: route.Location{Path: path, Scheme: route.HTTP, Balance: route.RoundRobin, BodySize: 1 << 20, Timeout: 20 * time.Second, Buffering: true}}
	for _, a := range addrs {
		l.Servers = append(l.Servers, route.Server{Addr: a, Weight: 1})
	}
	return l
}

func withTLS(s nestedSite, p certs.Pair, plain route.Plain) nestedSite {
	s.TLS, s.Cert, s.Plain = true, p, plain
	return s
}

// writePair makes a self-signed certificate for the names.
func writePair(t testing.TB, names ...string) certs.Pair {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writePairOf(t, k, names...)
}

// writePairOf makes one with that key.
func writePairOf(t testing.TB, k crypto.Signer, names ...string) certs.Pair {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := certs.Pair{Name: names[0], CertFile: filepath.Join(dir, "c.crt"), KeyFile: filepath.Join(dir, "c.key"), DNSNames: names, Fingerprint: "ab"}
	write(t, p.CertFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, p.KeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})))
	return p
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hasProblem(s nginx.Status, code string) bool {
	for _, p := range s.Problems {
		if p.Code == code {
			return true
		}
	}
	return false
}
