package files

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
)

func TestDocsShowACertificateThatHasExpired(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	expired := makeCert(t, time.Now().Add(-91*24*time.Hour), time.Now().Add(-24*time.Hour), "shop.example.com")
	for name, c := range map[string]made{"shop.example.com": expired, "www.example.com": current(t, "www.example.com"), "git.example.com": current(t, "git.example.com")} {
		write(t, filepath.Join(dir, name+".crt"), c.cert)
		write(t, filepath.Join(dir, name+".key"), c.key)
	}
	j := doctest.NewJournal(t)
	until := watching(t, Options{Dir: dir, Log: j.Log})
	inv := until("what is in the directory", func(i certs.Inventory) bool { return len(i.Problems) == 1 })
	doctest.Logged(t, "cert-expired", doctest.Problem(t, inv.Problems[0]), dir, "/etc/nagaya/certs")
	doctest.Logged(t, "certificates-read", j.Await("certificates-read"), dir, "/etc/nagaya/certs")
}
