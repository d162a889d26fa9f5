package stage

import (
	"net"
	"testing"
)

// An engine of the stage's own leaves the bridge of the other one, whose containers
// hang on it.
func TestAnEngineMoreTakesNoBridgeAway(t *testing.T) {
	const theirs = "docker0"
	if _, err := net.InterfaceByName(theirs); err != nil {
		t.Skipf("no engine of this host uses %s: %v", theirs, err)
	}
	e, err := StartEngine(t.Context())
	must(t, err)
	ours := e.bridge
	t.Cleanup(func() {
		if _, err := net.InterfaceByName(theirs); err != nil {
			t.Errorf("%s is gone: %v", theirs, err)
		}
		if _, err := net.InterfaceByName(ours); err == nil {
			t.Errorf("%s was left behind", ours)
		}
	})
	t.Cleanup(func() { must(t, e.Close()) })
	if _, err := net.InterfaceByName(theirs); err != nil {
		t.Errorf("%s is gone: %v", theirs, err)
	}
	must(t, e.Restart(t.Context()))
}
