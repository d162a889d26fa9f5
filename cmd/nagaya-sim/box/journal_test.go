package box

import (
	"encoding/json"
	"strings"
)

// journal checks that what the agent wrote can be asked for, and is explained.
func journal(m *machine) {
	known := m.do("journalctl", "--list-catalog", "--no-pager")
	seen := map[string]map[string]any{}
	for line := range strings.Lines(m.do("journalctl", "-u", "nagaya", "-b", "-o", "json", "--no-pager")) {
		var e map[string]any
		must(m.t, json.Unmarshal([]byte(line), &e))
		event, _ := e["NAGAYA_EVENT"].(string)
		if event == "" {
			continue
		}
		seen[event] = e
		if id, _ := e["MESSAGE_ID"].(string); id == "" || !strings.Contains(known, id) {
			m.t.Errorf("%s: the catalog does not know MESSAGE_ID %q", event, id)
		}
	}
	for event, fields := range map[string][]string{
		"address-held":   {"NAGAYA_ADDRESS", "NAGAYA_INSTANCE"},
		"route-added":    {"NAGAYA_HOST", "CONTAINER_NAME"},
		"nginx-reloaded": {"NAGAYA_GENERATION"},
	} {
		e := seen[event]
		if e == nil {
			m.t.Errorf("the journal has no %s", event)
		}
		for _, f := range fields {
			if v, _ := e[f].(string); v == "" {
				m.t.Errorf("%s has no field %s: %v", event, f, e)
			}
		}
	}
	if out := m.do("journalctl", "-u", "nagaya", "NAGAYA_EVENT=address-held", "-x", "--no-pager"); !strings.Contains(out, "Subject: ") {
		m.t.Errorf("journalctl -x explains nothing:\n%s", out)
	}
	if out := m.do("journalctl", "NAGAYA_HOST=a.test", "-o", "cat", "--no-pager"); !strings.Contains(out, "a.test") {
		m.t.Errorf("the journal has nothing about a.test:\n%s", out)
	}
}
