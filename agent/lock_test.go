package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

func TestLockState(t *testing.T) {
	c := config.Config{StateDir: t.TempDir()}
	unlock, err := lockState(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockState(c); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want errTaken with the process that holds it", err)
	}
	unlock()
	again, err := lockState(c)
	if err != nil {
		t.Fatal(err)
	}
	again()
	c.StateDir += "/missing"
	if unlock, err := lockState(c); err != nil {
		t.Errorf("a directory that cannot be locked: %v", err)
	} else {
		unlock()
	}
}
