package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

var errNotYet = errors.New("not yet")

// hosts are those that the tests use.
var hosts = []string{"a.test", "b.test", "c.test", "shop.example.com"}

// theSet is the cloud of all tests.
var theSet = sync.OnceValues(func() (*Set, error) {
	tar, err := tell("../../..", nil, ".ci/box-tar")
	if err != nil {
		return nil, err
	}
	tar = tar[strings.LastIndex(tar, "\n")+1:]
	return New(context.Background(), Options{Bin: filepath.Join(packages, "bin"), Tar: tar, Hosts: hosts})
})

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is for what takes a machine of its own some seconds; these share two
// processors with each other and with other tests.
const patience = 2 * time.Minute

func until(t *testing.T, what string, try func() error) {
	t.Helper()
	must(t, stage.Until(t.Context(), patience, what, try))
}

// free puts a free Elastic IP into the cloud, until the test ends.
func free(t *testing.T) *Set {
	t.Helper()
	s, err := theSet()
	must(t, err)
	_, err = s.Cloud.AddAddress(simaws.AddressSpec{
		AllocationID: simaws.DefaultAllocation, PublicIP: simaws.DefaultPublicIP, Tags: map[string]string{"Name": "nagaya"},
	})
	must(t, err)
	t.Cleanup(func() {
		_ = s.Cloud.Disassociate(simaws.DefaultAllocation) // it may be free
		if err := s.Cloud.ReleaseAddress(simaws.DefaultAllocation); err != nil {
			t.Error(err)
		}
	})
	return s
}

// machine is a box under test.
type machine struct {
	*Box
	t *testing.T
}

// launch starts a box. If the test fails, its journal is shown.
func launch(t *testing.T, s *Set, l Launch) *machine {
	t.Helper()
	b, err := s.Launch(t.Context(), l)
	must(t, err)
	m := &machine{b, t}
	t.Cleanup(func() {
		defer func() {
			if err := b.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		if t.Failed() {
			out, _ := m.try("journalctl", "--no-pager", "-n", "120", "-u", "nagaya*", "-u", "cloud-final", "-u", "ecs")
			t.Logf("console of %s:\n%s\njournal:\n%s", b.Name, b.Log(context.Background()), out)
		}
	})
	return m
}

// sub is a subtest on the machine.
func (m *machine) sub(name string, test func(m *machine)) {
	m.t.Run(name, func(t *testing.T) {
		test(&machine{m.Box, t})
	})
}

// try runs a command and returns what it said.
func (m *machine) try(args ...string) (said string, code int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // the test's own has ended when it is cleaned up
	defer cancel()
	out, code, err := m.Exec(ctx, args...)
	if err != nil {
		return out + err.Error(), -1
	}
	return strings.TrimSpace(out), code
}

// do is try for what must succeed.
func (m *machine) do(args ...string) string {
	m.t.Helper()
	out, code := m.try(args...)
	if code != 0 {
		m.t.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

// sh runs a script that must succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	return m.do("sh", "-ec", script)
}

// show is a property of a unit.
func (m *machine) show(unit, property string) string {
	m.t.Helper()
	return m.do("systemctl", "show", "--value", "-p", property, unit)
}

// pid is the main process of a unit, 0 for none.
func (m *machine) pid(unit string) int {
	m.t.Helper()
	pid, err := strconv.Atoi(m.show(unit, "MainPID"))
	must(m.t, err)
	return pid
}

// is waits until systemd says so of a unit.
func (m *machine) is(unit, state string) {
	m.t.Helper()
	until(m.t, unit+" is "+state, func() error {
		if out, _ := m.try("systemctl", "is-active", unit); out != state {
			return fmt.Errorf("it is %q", out)
		}
		return nil
	})
}

// status is what 'nagaya status --json' says.
func (m *machine) status() (st report.Status, err error) {
	m.t.Helper()
	out, code := m.try("nagaya", "status", "--json")
	if code != 0 {
		return st, fmt.Errorf("exit code %d: %s", code, out)
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// shows waits until the status is so.
func (m *machine) shows(what string, is func(report.Status) bool) (st report.Status) {
	m.t.Helper()
	until(m.t, what, func() (err error) {
		if st, err = m.status(); err == nil && !is(st) {
			err = fmt.Errorf("address %+v, live %v, problems %+v", st.Address.Decision, st.Routes.LiveHosts(), st.Problems)
		}
		return err
	})
	return st
}

// problem waits until the status has a problem of that code.
func (m *machine) problem(code string) {
	m.t.Helper()
	m.shows("problem "+code, func(st report.Status) bool { return has(st, code) })
}

func has(st report.Status, code string) bool {
	for _, p := range st.Problems {
		if p.Code == code {
			return true
		}
	}
	return false
}

// visit asks for a host at the Elastic IP.
func visit(c *http.Client, host string) error {
	resp, err := c.Get("https://" + host + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if by := resp.Header.Get("X-Household"); resp.StatusCode != http.StatusOK || by == "" {
		return fmt.Errorf("%s from %q", resp.Status, by)
	}
	return nil
}

// load is 200 requests a second for the host at the Elastic IP, half of them on
// connections that are kept.
func load(t *testing.T, s *Set, host string) (end func()) {
	t.Helper()
	l := visits(t, s, host)
	return func() {
		t.Helper()
		met := l.Stop()
		t.Logf("%d requests, %d failed", met.Requests, met.Failed)
		if met.Failed > 0 {
			t.Errorf("%d of %d requests failed, the first: %s", met.Failed, met.Requests, met.First)
		}
	}
}

// visits is load that may fail.
func visits(t *testing.T, s *Set, host string) *stage.Load {
	t.Helper()
	kept, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	fresh, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return stage.StartVisits(ctx, 200, func(n int) *http.Client {
		if n%2 == 1 {
			return fresh
		}
		return kept
	}, "https://"+host+"/")
}

// firstBoot is user data that installs the package.
func firstBoot(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../packaging/user-data/ecs.sh")
	must(t, err)
	return FirstBoot(string(text), "home")
}

// deb is a package as a file of a box.
func deb(t *testing.T, path string) File {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return File{Content: content}
}
