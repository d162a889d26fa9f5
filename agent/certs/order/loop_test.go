package order

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

var public = netip.MustParseAddr("203.0.113.10")

// world is what outlives an agent.
type world struct {
	t     *testing.T
	store *fakeStore
	ca    *fakeCA
	dns   *fakeDNS
	// web is where public requests lead: the directory of challenges of who has the address.
	web atomic.Value
	// seen, if set, notes who speaks with the CA.
	seen *watched
	// shared, if set, is the store instead of the fake one, which then mirrors it; calm ends what it suffers.
	shared Store
	calm   func()
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: newStore(), dns: &fakeDNS{zone: "zone.test", records: map[string][]string{}}}
	w.ca = newCA(t, servedFrom(func() string { dir, _ := w.web.Load().(string); return dir }, w.dns))
	return w
}

// instance is an agent of the world. Once it is dead none of its calls has an effect.
type instance struct {
	*world
	dir  string
	o    Options
	in   Inputs
	log  *strings.Builder
	stop func()
	// wire, if set, is the CA instead of the fake one.
	wire CA

	mu     sync.Mutex
	ready  int
	report certs.Report
	dead   bool
	ahead  time.Duration // what its clock is ahead
	calls  int
	// dies is the number of the call at which it is killed, after its effect if late.
	dies int
	late bool
}

func (w *world) instance(owner string) *instance {
	dir := w.t.TempDir()
	i := &instance{
		world: w, dir: dir, in: NewInputs(), log: &strings.Builder{},
	}
	i.in.clock = func() time.Time {
		i.mu.Lock()
		defer i.mu.Unlock()
		return time.Now().Round(0).Add(i.ahead)
	}
	i.o = Options{
		Settings: certs.Settings{ACME: config.ACME{Email: "ops@a.test", Directories: []string{directory}, CheckAddress: true}, Seed: owner},
		Owner:    owner, Issued: filepath.Join(dir, "issued"), Challenges: filepath.Join(dir, "challenges"),
		Store: mortalStore{i}, StoreName: "s3://store", CAs: map[string]CA{directory: mortalCA{i}}, DNS: mortalDNS{i},
		NewKey: acme.NewKey, NewRequest: acme.NewRequest, Claimed: true, Metadata: true,
		Lookup: func(context.Context, string, string) ([]netip.Addr, error) { return []netip.Addr{public}, nil },
		Log:    slog.New(slog.NewTextHandler(i.log, nil)),
	}
	return i
}

// start runs it: its sites ask for these hosts, and it has the address if holds.
func (i *instance) start(holds bool, hosts ...string) {
	ctx, cancel := context.WithCancel(i.t.Context())
	ended := make(chan struct{})
	i.note(func() { i.dead = false })
	i.want(hosts...)
	i.in.Files.Put(certs.Inventory{Complete: true})
	i.in.Serving.Put(true)
	i.hold(holds)
	go func() {
		defer close(ended)
		if err := run(ctx, i.o, i.in, Outputs{
			Ready:  func() { i.note(func() { i.ready++ }) },
			Report: func(r certs.Report) { i.note(func() { i.report = r }) },
		}, identity.Instance{}); err != nil {
			i.t.Error(err)
		}
	}()
	i.stop = sync.OnceFunc(func() { cancel(); <-ended })
	i.t.Cleanup(i.stop)
}

func (i *instance) talk() CA {
	if i.wire != nil {
		return i.wire
	}
	return i.ca
}

// note changes what the loop and the test see.
func (i *instance) note(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// said is its newest report, and readies how often it was ready.
func (i *instance) said() (r certs.Report) {
	i.note(func() { r = i.report })
	return r
}

func (i *instance) readies() (n int) {
	i.note(func() { n = i.ready })
	return n
}

func (i *instance) want(hosts ...string) {
	var all []certs.Wish
	for _, h := range hosts {
		names := strings.Split(h, " ")
		slices.Sort(names)
		all = append(all, certs.Wish{Host: names[0], Family: "ecs:" + names[0], Names: names})
	}
	i.in.Wishes.Put(all)
}

func (i *instance) hold(holds bool) {
	r := address.Report{ClaimStatus: address.ClaimStatus{Claim: "eipalloc-1", Known: true, Address: address.Address{PublicIP: public}, Holder: address.Holder{Kind: address.Other}}}
	if holds {
		r.Holder.Kind = address.Self
		i.web.Store(i.o.Challenges)
	}
	i.in.Address.Put(r)
}

// step steps its clock, which is then that much ahead.
func (i *instance) step(ahead time.Duration) {
	i.note(func() { i.ahead = ahead })
}

// kill ends it as SIGKILL does.
func (i *instance) kill() {
	i.note(func() { i.dead = true })
	i.stop()
}

var errDead = errors.New("killed")

// alive counts a call, and returns an error once the instance is dead.
func (i *instance) alive(late bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !late {
		i.calls++
	}
	if i.dies != 0 && i.calls >= i.dies && i.late == late {
		i.dead = true
	}
	if i.dead {
		return errDead
	}
	return nil
}

// mortal makes a call of an instance.
func mortal[T any](i *instance, call func() (T, error)) (v T, err error) {
	if err := i.alive(false); err != nil {
		return v, err
	}
	v, err = call()
	return v, errors.Join(err, i.alive(true))
}

func (w *world) kept() Store {
	if w.shared != nil {
		return w.shared
	}
	return w.store
}

type mortalStore struct{ i *instance }

func (m mortalStore) List(ctx context.Context, prefix string) (map[string]string, error) {
	return mortal(m.i, func() (map[string]string, error) { return m.i.kept().List(ctx, prefix) })
}

func (m mortalStore) Get(ctx context.Context, name string) (body []byte, version string, err error) {
	body, err = mortal(m.i, func() (b []byte, err error) { b, version, err = m.i.kept().Get(ctx, name); return b, err })
	return body, version, err
}

func (m mortalStore) Put(ctx context.Context, name string, body []byte, version string) (string, error) {
	return mortal(m.i, func() (string, error) { return m.i.kept().Put(ctx, name, body, version) })
}

type mortalCA struct{ i *instance }

func (m mortalCA) enter(names []string) func() {
	dead := false
	m.i.note(func() { dead = m.i.dead })
	if m.i.seen == nil || dead {
		return func() {}
	}
	return m.i.seen.enter(m.i.o.Owner, names)
}

func (m mortalCA) Register(ctx context.Context, a certs.Account, b certs.Binding) (certs.Account, error) {
	return mortal(m.i, func() (certs.Account, error) { return m.i.talk().Register(ctx, a, b) })
}

func (m mortalCA) Begin(ctx context.Context, a certs.Account, o certs.Order, kinds func(string) []string) (certs.Pending, error) {
	defer m.enter(o.Names)()
	return mortal(m.i, func() (certs.Pending, error) { return m.i.talk().Begin(ctx, a, o, kinds) })
}

func (m mortalCA) Finish(ctx context.Context, a certs.Account, p certs.Pending, csr []byte) (string, error) {
	defer m.enter(p.Names)()
	return mortal(m.i, func() (string, error) { return m.i.talk().Finish(ctx, a, p, csr) })
}

func (m mortalCA) Renewal(ctx context.Context, chain string) (certs.Window, error) {
	return mortal(m.i, func() (certs.Window, error) { return m.i.talk().Renewal(ctx, chain) })
}

type mortalDNS struct{ i *instance }

func (m mortalDNS) Covers(name string) bool { return m.i.dns.Covers(name) }

func (m mortalDNS) Add(ctx context.Context, record, value string) error {
	_, err := mortal(m.i, func() (int, error) { return 0, m.i.dns.Add(ctx, record, value) })
	return err
}

func (m mortalDNS) Remove(ctx context.Context, record, value string) error {
	_, err := mortal(m.i, func() (int, error) { return 0, m.i.dns.Remove(ctx, record, value) })
	return err
}

// after lets virtual time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// copies are the certificates in the local copy, by id.
func (i *instance) copies() map[string]*x509.Certificate {
	all := map[string]*x509.Certificate{}
	entries, _ := os.ReadDir(i.o.Issued)
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), ".pem")
		b, _, err := readCopy(i.o.Issued, id)
		if err != nil {
			i.t.Errorf("local copy %s: %v", id, err)
			continue
		}
		block, _ := pem.Decode([]byte(b.Chain))
		all[id], _ = x509.ParseCertificate(block.Bytes)
	}
	return all
}

func (i *instance) mustHave(when string, names ...string) {
	i.t.Helper()
	have := i.copies()
	for _, n := range names {
		if have[certs.ID([]string{n}, certs.ECDSA)] == nil {
			i.t.Errorf("%s: no certificate for %s; log:\n%s\nreport: %+v", when, n, i.log, i.said().Entries)
		}
	}
	if len(have) != len(names) {
		i.t.Errorf("%s: %d certificates, want %d", when, len(have), len(names))
	}
}

// ordering reports whether an instance has taken a lease.
func (w *world) ordering() bool {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for name, body := range w.store.objects {
		if strings.HasPrefix(name, "orders/") && strings.Contains(body, `"owner"`) {
			return true
		}
	}
	return false
}

// mustBeSettled checks that no order has left anything.
func (w *world) mustBeSettled(when string, all ...*instance) {
	w.t.Helper()
	for _, name := range w.store.names("orders/") {
		var v lease
		if err := json.Unmarshal([]byte(w.store.objects[name]), &v); err != nil || v.Owner != "" || v.Pending != nil || v.Key != "" {
			w.t.Errorf("%s: %s is not free: %s", when, name, w.store.objects[name])
		}
	}
	if len(w.dns.records) > 0 {
		w.t.Errorf("%s: TXT records are left: %v", when, w.dns.records)
	}
	for _, i := range all {
		if left, _ := os.ReadDir(filepath.Join(i.o.Challenges, challengePath)); len(left) > 0 {
			w.t.Errorf("%s: %d answers to challenges are left", when, len(left))
		}
	}
}

func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

func TestACertificateFromNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test")
		after(3 * time.Second)
		a.mustHave("in 3 s", "a.test")
		w.mustBeSettled("then", a)
		if a.readies() != 1 || !a.said().StoreRead || a.said().Orders[certs.Issued] != 1 || len(a.said().Problems) > 0 {
			t.Errorf("ready %d times, report %+v", a.readies(), a.said())
		}
		info, err := os.Stat(filepath.Join(a.o.Issued, certs.ID([]string{"a.test"}, certs.ECDSA)+".pem"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the local copy: %v, %v", info, err)
		}
		after(24 * time.Hour)
		if n := w.ca.count("begin"); n != 1 {
			t.Errorf("%d orders in a day, want 1; log:\n%s", n, a.log)
		}
	})
}

// An instance whose state directory is gone serves from the store, without an order.
func TestAnInstanceIsReplaced(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test", "b.test")
		after(10 * time.Second)
		a.stop()
		b := w.instance("b")
		b.start(true, "a.test", "b.test")
		after(0)
		if b.readies() != 1 {
			t.Fatal("it is not ready at once")
		}
		b.mustHave("at once", "a.test", "b.test")
		after(time.Hour)
		if n := w.ca.count("begin"); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
	})
}

// Whatever call an agent is killed at, before or after its effect, the order goes on after a restart, or on
// another instance, with the same key, and nothing is left.
func TestKilledAtEveryStep(t *testing.T) {
	for _, host := range []string{"a.test", "a.zone.test *.a.zone.test"} {
		for _, late := range []bool{false, true} {
			for _, replaced := range []bool{false, true} {
				for dies := 1; ; dies++ {
					name := fmt.Sprintf("%s, call %d, late %v, replaced %v", host, dies, late, replaced)
					reached := true
					inBubble(t, func(w *world) {
						a := w.instance("a")
						a.dies, a.late = dies, late
						a.start(true, host)
						after(2 * time.Minute)
						if a.note(func() { reached = a.dead }); !reached {
							return
						}
						a.kill()
						b := a
						if replaced {
							b = w.instance("b")
						}
						b.dies = 0
						b.start(true, host)
						after(20 * time.Minute)
						if n := len(b.copies()); n != 1 {
							t.Errorf("%s: %d certificates; log:\n%s\n%s", name, n, a.log, b.log)
						}
						w.mustBeSettled(name, b)
						if n := w.ca.count("begin"); n > 2 {
							t.Errorf("%s: %d orders", name, n)
						}
					})
					if !reached {
						break
					}
				}
			}
		}
	}
}
