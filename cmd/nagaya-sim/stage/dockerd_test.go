package stage

import (
	"net"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// An engine of the stage's own leaves the bridge of the other one, whose containers
// hang on it.
func TestAnEngineMoreTakesNoBridgeAway(t *testing.T) {
	const theirs = "docker0"
	_, err := net.InterfaceByName(theirs)
	testenv.Need(t, err)
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
