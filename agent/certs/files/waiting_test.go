package files

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The certificate of sites that wait is made once, and is of no host.
func TestTheCertificateOfWaiting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nginx")
	if p, wrong := waiting(dir, true, now); p.CertFile != "" || wrong != nil {
		t.Errorf("where nothing may be changed: %+v, %+v", p, wrong)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made where nothing may be changed")
	}
	first, wrong := waiting(dir, false, now)
	if wrong != nil {
		t.Fatal(wrong)
	}
	again, _ := waiting(dir, false, now.AddDate(1, 0, 0))
	if again.Fingerprint != first.Fingerprint || again.CertFile != first.CertFile {
		t.Error("it is made again without need")
	}
	if late, _ := waiting(dir, false, now.AddDate(10, 0, 0)); late.Fingerprint == first.Fingerprint || !late.NotAfter.After(now.AddDate(19, 0, 0)) {
		t.Errorf("it is not made again before it expires at %s", late.NotAfter)
	}
	if first.CommonName != "nagaya: waiting for a certificate" || len(first.DNSNames) > 0 || first.NotAfter.Sub(now) < 9*365*24*time.Hour {
		t.Errorf("%+v", first)
	}
	if _, err := tls.LoadX509KeyPair(first.CertFile, first.KeyFile); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(first.KeyFile); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may read the key: %v, %v", info.Mode(), err)
	}
}
