package report

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A name that a container chose is one word of a command, and nothing else, when somebody pastes it into a shell.
func TestCommandsAreOneWord(t *testing.T) {
	for _, name := range []string{
		"shop.example.com", "*.example.com", `~^x[0-9]+\.test$`, "tcp:2222", "", "a b", "it's", "'; reboot; '", "$(reboot)", "`reboot`", "a\nreboot\n", "\x1b[2J\x00", "-x", "ä", strings.Repeat("'", 500),
	} {
		command := Journal("NAGAYA_HOST", name)
		word, ok := strings.CutPrefix(command, "journalctl -u nagaya ")
		out, err := exec.Command("sh", "-c", "printf '%s|' "+word).CombinedOutput()
		if want := problem.Printable("NAGAYA_HOST="+name, 400) + "|"; !ok || err != nil || string(out) != want || strings.ContainsAny(command, "\n\x1b\x00") {
			t.Errorf("%q: %s is %q, want %q; %v", name, command, out, want, err)
		}
	}
}

// That is so in fish too, which takes \' and \\ between single quotes for one character each.
func TestCommandsInFish(t *testing.T) {
	for name, want := range map[string]string{
		`~^(.*)\.a\.test$`: `'~^(.*)\.a\.test$'`,
		`\';reboot;'\`:     `''"\\"''"'"';reboot;'"'"''"\\"''`,
		`a\\b`:             `'a'"\\"''"\\"'b'`,
	} {
		got := Quoted(name)
		if out, err := exec.Command("sh", "-c", "printf %s "+got).Output(); got != want || err != nil || string(out) != name {
			t.Errorf("%q: %s, want %s; %q, %v", name, got, want, out, err)
		}
	}
}

// What has expired is never shown as good, whatever has been noted of it.
func TestCertificatesThatAreBad(t *testing.T) {
	day := 24 * time.Hour
	for _, row := range []struct {
		name  string
		state certs.State
		left  time.Duration // 0 is no certificate
		want  CertificateView
	}{
		{"valid", certs.Valid, 61*day + time.Hour, CertificateView{State: "valid", Days: 61}},
		{"its last day", certs.Valid, time.Hour, CertificateView{State: "valid", Days: 0}},
		{"expired a moment ago, and not noted", certs.Valid, -time.Second, CertificateView{State: "expired", Days: -1, Bad: true}},
		{"expired while a new one is ordered", certs.Ordering, -30 * time.Hour, CertificateView{State: "expired", Days: -2, Bad: true}},
		{"overdue", certs.Overdue, 10 * day, CertificateView{State: "overdue", Days: 10, Bad: true}},
		{"overdue while a new one is ordered", certs.Ordering, 9 * day, CertificateView{State: "ordering", Days: 9, Bad: true}},
		{"refused", certs.Refused, 0, CertificateView{State: "refused", Bad: true}},
		{"the first one is ordered", certs.Ordering, 0, CertificateView{State: "ordering"}},
	} {
		e := certs.Entry{Hosts: []string{"a.example.com"}, Source: "acme", State: row.state, Overdue: strings.HasPrefix(row.name, "overdue")}
		if row.left != 0 {
			e.NotAfter = noon.Add(row.left)
		}
		s := healthy()
		s.Orders = certs.Report{On: true, Entries: []certs.Entry{{Hosts: []string{"a.example.com"}, State: certs.Valid, NotAfter: noon.Add(90 * day)}, e}}
		got := s.View().Hosts[0].Certificate
		row.want.NotAfter = e.NotAfter
		if got == nil || *got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}
