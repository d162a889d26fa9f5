package stage

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An agent of a stage costs what one of the package costs.
func TestTheAgentHasTheTimerSlackOfItsUnit(t *testing.T) {
	unit, err := os.ReadFile("../../../systemd/nagaya.service")
	must(t, err)
	option := regexp.MustCompile(`(?m)^TimerSlackNSec=(.+)$`).FindSubmatch(unit)
	if option == nil {
		t.Fatal("nagaya.service has no TimerSlackNSec=")
	}
	want, err := time.ParseDuration(string(option[1]))
	must(t, err)
	s := newStage(t, Options{})
	must(t, s.StartAgent())
	slack, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", s.AgentPID()))
	must(t, err)
	if got := strings.TrimSpace(string(slack)); got != fmt.Sprint(want.Nanoseconds()) {
		t.Errorf("the agent's timer slack is %s ns, want %d", got, want.Nanoseconds())
	}
}
