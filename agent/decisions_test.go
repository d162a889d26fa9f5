package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// A decision is never folded into one that was made for another reason or about another holder,
// however soon it comes; the same decision said twice is.
func TestDecisionsAreNotFolded(t *testing.T) {
	for _, row := range []struct {
		kind          string
		first, second []any
	}{
		{event.AddressDecided, []any{"decision", "take", "reason", "it is free", "holder_id", ""}, []any{"decision", "keep", "reason", "this instance holds it", "holder_id", "i-1"}},
		{event.AddressDecided, []any{"decision", "stay", "reason", "its holder i-2 is leaving", "holder_id", "i-2"}, []any{"decision", "stay", "reason", "policy wait: i-3 holds it", "holder_id", "i-3"}},
		{event.GateClosed, []any{"decision", "closed", "reason", "the operator closed it"}, []any{"decision", "closed", "reason", "the headroom is too small"}},
		{event.BrakeChanged, []any{"decision", "quota", "reason", "the services need 3 credits more"}, []any{"decision", "quota", "reason", "the services need 9 credits more"}},
		{event.ContainerBraked, []any{"container", "a", "decision", "slowed", "vcpus", 0.5, "reason", "r"}, []any{"container", "a", "decision", "slowed", "vcpus", 0.1, "reason", "r"}},
		{event.BatchRefused, []any{"job_id", "a-1", "decision", "refused", "reason", "too late"}, []any{"job_id", "a-1", "decision", "refused", "reason", "it is not known what it needs"}},
	} {
		var out bytes.Buffer
		lines := systemd.NewRepeats(slog.NewTextHandler(&out, nil), event.Abouts())
		log := slog.New(lines)
		for _, fields := range [][]any{row.first, row.second, row.first} {
			log.Info("decided", append([]any{event.Key, row.kind}, fields...)...)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%s: %d lines before the minute is over, want 2:\n%s", row.kind, n, out.String())
		}
		lines.Flush()
	}
}
