package proc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// What root does in the name of another is that one's, and root is root again afterwards.
func TestAsOwnerOf(t *testing.T) {
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("/var/tmp", "owner") // a directory that everybody may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("wrong")
	if err := AsOwnerOf(dir, func() error {
		if _, err := os.ReadFile(secret); !errors.Is(err, os.ErrPermission) {
			t.Errorf("reading what is root's: %v", err)
		}
		if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
			t.Error(err)
		}
		return wrong
	}); !errors.Is(err, wrong) {
		t.Error(err)
	}
	info, err := os.Stat(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if of := info.Sys().(*syscall.Stat_t); of.Uid != nobody || of.Gid != nobody {
		t.Errorf("the file is of %d:%d", of.Uid, of.Gid)
	}
	if _, err := os.ReadFile(secret); err != nil || os.Geteuid() != 0 || os.Getegid() != 0 {
		t.Errorf("as %d:%d afterwards: %v", os.Geteuid(), os.Getegid(), err)
	}
	if err := AsOwnerOf(dir+"/none", func() error { return nil }); err != nil {
		t.Error(err)
	}
}
