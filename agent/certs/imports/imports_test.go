package imports

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
)

// pair is a certificate for a host that is valid for so many days, and its key.
func pair(t *testing.T, host string, days int) (chain, key string) {
	t.Helper()
	return pairSince(t, host, time.Hour, days)
}

// pairSince is pair for one that was issued so long ago.
func pairSince(t *testing.T, host string, ago time.Duration, days int) (chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{host}, NotBefore: time.Now().Add(-ago), NotAfter: time.Now().AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(k)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// letsencrypt is certbot's directory with one certificate.
func letsencrypt(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	chain, key := pair(t, "a.test", 60)
	put(t, dir+"/archive/a.test/fullchain3.pem", chain)
	put(t, dir+"/archive/a.test/privkey3.pem", key)
	put(t, dir+"/renewal/a.test.conf", "[renewalparams]\nserver = https://ca.test/directory\n")
	put(t, dir+"/cli.ini", "rsa-key-size = 4096\n")
	if err := os.MkdirAll(dir+"/live/a.test", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fullchain", "privkey"} {
		if err := os.Symlink("../../archive/a.test/"+name+"3.pem", dir+"/live/a.test/"+name+".pem"); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadCertbot(t *testing.T) {
	dir := letsencrypt(t)
	for _, path := range []string{"", "live", "live/a.test"} {
		files, wrong := Read(filepath.Join(dir, path))
		if len(wrong) > 0 {
			t.Errorf("%s: %v", path, wrong)
		}
		found := certs.Foreign(files, time.Now())
		if len(found) != 1 || found[0].Why != "" || found[0].Program != "certbot" || found[0].Directory != "https://ca.test/directory" ||
			found[0].File != dir+"/live/a.test/fullchain.pem" {
			t.Errorf("%s: %+v", path, found)
		}
	}
}

// Who may write to the directory may put anything there.
func TestReadHostile(t *testing.T) {
	dir := t.TempDir()
	chain, key := pair(t, "a.test", 60)
	put(t, dir+"/a/a.pem", chain+key)
	put(t, dir+"/big", strings.Repeat("-----BEGIN ", maxFile/11+2))
	put(t, dir+"/1/2/3/4/5/6/7/deep.pem", chain)
	for target, link := range map[string]string{dir: dir + "/a/loop", "/nowhere": dir + "/dangling", "/dev/zero": dir + "/zero"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	files, wrong := Read(dir)
	if len(files) != 1 || files[0].Path != dir+"/a/a.pem" {
		t.Errorf("read %d files", len(files))
	}
	if len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "larger than") {
		t.Errorf("wrong: %v", wrong)
	}
	_, wrong = Read(dir+"/none\n", dir+"/pipe")
	if len(wrong) != 2 || strings.Contains(wrong[0].Error(), "\n") || !strings.Contains(wrong[1].Error(), "neither a file nor a directory") {
		t.Errorf("wrong: %q", wrong)
	}
}

// kept is a store in memory. Before it writes, it does what the test wants.
type kept struct {
	objects map[string][]byte
	version map[string]int
	before  func()
	fault   error
}

func (k *kept) Get(_ context.Context, name string) ([]byte, string, error) {
	body, ok := k.objects[name]
	if !ok {
		return nil, "", certs.ErrNotFound
	}
	return body, fmt.Sprint(k.version[name]), k.fault
}

func (k *kept) Put(_ context.Context, name string, body []byte, version string) (string, error) {
	if k.before != nil {
		k.before()
	}
	has := ""
	if k.version[name] > 0 {
		has = fmt.Sprint(k.version[name])
	}
	if has != version {
		return "", certs.ErrConflict
	}
	k.objects[name] = body
	k.version[name]++
	return fmt.Sprint(k.version[name]), k.fault
}

func (k *kept) List(context.Context, string) (map[string]string, error) { return nil, nil }

func (k *kept) bundle(t *testing.T, name string) (b certs.Bundle) {
	t.Helper()
	if err := json.Unmarshal(k.objects[name], &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWrite(t *testing.T) {
	const object = "certs/a.test.P256.json"
	oldChain, oldKey := pair(t, "a.test", 30)
	newChain, newKey := pair(t, "a.test", 60)
	dir := t.TempDir()
	k := &kept{objects: map[string][]byte{}, version: map[string]int{}}
	step := func(name, text string, dry bool, want Outcome, note string) {
		t.Helper()
		put(t, dir+"/x.pem", text)
		r, err := Import(t.Context(), Options{Paths: []string{dir}, Owner: dir, Dry: dry, Save: func(ctx context.Context, b certs.Bundle) (certs.Bundle, error) {
			if dry {
				return b, nil
			}
			there, _, err := order.Save(ctx, k, b, time.Now())
			return there, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		got := r.Certificates
		if len(got) != 1 || got[0].Outcome != want || !strings.Contains(got[0].Note, note) {
			t.Errorf("%s: %+v; want %s, %q", name, got, want, note)
		}
	}
	step("dry", oldChain+oldKey, true, Wanted, "")
	if len(k.objects) > 0 {
		t.Error("a dry run has written")
	}
	step("first", oldChain+oldKey, false, Imported, "")
	step("again", oldChain+oldKey, false, Present, "the store has it")
	step("newer", newChain+newKey, false, Imported, "")
	step("older", oldChain+oldKey, false, Present, " and is valid until "+time.Now().UTC().AddDate(0, 0, 60).Format("2006-01"))
	step("without its key", newChain, false, LeftOut, "no key")
	b := k.bundle(t, object)
	if b.ID != "a.test.P256" || !b.Imported || b.Chain != newChain || b.Key != newKey || b.Saved.IsZero() || !strings.HasPrefix(b.Writer, "import-") {
		t.Errorf("kept is %+v", b)
	}

	// Agents keep what was issued last, and would write it over this one.
	longChain, longKey := pairSince(t, "a.test", 48*time.Hour, 300)
	step("valid longer, but issued before", longChain+longKey, false, Present, "the store has one that was issued on")
	shortChain, shortKey := pairSince(t, "a.test", time.Minute, 20)
	step("issued later, for a shorter time", shortChain+shortKey, false, Imported, "")
	expiredChain, expiredKey := pairSince(t, "a.test", 24*time.Hour, 0)
	gone := certs.Foreign([]certs.File{{Path: "x.pem", Body: []byte(expiredChain + expiredKey)}}, time.Now().Add(-time.Hour))[0].Bundle()
	expired, err := json.Marshal(gone)
	if err != nil {
		t.Fatal(err)
	}
	k.objects[object] = expired
	step("valid, over one that was issued later and has expired", longChain+longKey, false, Imported, "")

	k.objects[object] = []byte("spoilt")
	step("a spoilt object is replaced", oldChain+oldKey, false, Imported, "")

	// Another writer is first, once with an older and once with a newer one.
	newer, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	once := true
	k.before = func() {
		if once {
			k.objects[object], once = newer, false
			k.version[object]++
		}
	}
	k.objects[object] = []byte("spoilt")
	step("another writer was first", oldChain+oldKey, false, Present, "the store has one")
	if diff := cmp.Diff(b, k.bundle(t, object)); diff != "" {
		t.Errorf("the newer one is overwritten:\n%s", diff)
	}
	k.before = func() { k.version[object]++ }
	k.objects[object] = []byte("spoilt")
	step("another writer is always first", oldChain+oldKey, false, Failed, "8 times")

	k.before, k.fault = nil, errors.New("no space")
	step("a store that fails", newChain+newKey, false, Failed, "no space")
}
