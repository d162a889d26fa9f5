package box

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	fence  = regexp.MustCompile("(?ms)^```(\\w*)\\n(.*?)^```$")
	inline = regexp.MustCompile("`((?:nagaya|journalctl|systemctl) [^`]+)`")
)

// programs are those whose commands count as such in a document.
var programs = regexp.MustCompile(`^(nagaya|journalctl|systemctl|systemd-\S+|docker|make|aws|apt-get|apt|dnf|yum|dpkg|rpm|curl|packer|kill|sudo|ssh|install|openssl|logrotate)( |$)`)

// commands are those that a document shows: in blocks that are no other language's, of
// lines that begin with "$ " if there are any; and in the text.
func commands(text string) (all []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if !slices.Contains([]string{"", "sh", "bash", "shell", "console"}, m[1]) {
			continue
		}
		prompted := strings.Contains("\n"+m[2], "\n$ ")
		for line := range strings.Lines(m[2]) {
			command, prompt := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if (prompt || !prompted) && programs.MatchString(command) {
				all = append(all, command)
			}
		}
	}
	for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(m[1], "\n", " "))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// excused says why a command is not run here.
var excused = []struct{ command, why string }{
	{`^(aws|packer|ssh) `, "it speaks to AWS itself"},
	{`^nagaya plan --from-cloudwatch .*--region`, "it names a Region that is not the simulated one"},
	{`^make( |$)`, "it is for the source tree"},
	{`^(sudo )?(apt-get|apt|dnf|yum|dpkg|rpm) `, "the first boot has installed the package; upgrade and removal have tests of their own"},
	{`^docker (run|exec|logs|stop|start|kill|compose|build)( |$)`, "the images are others'; stage plays the commands with its own"},
	{`^(systemctl edit|nagaya agent|journalctl .*-f)\b`, "it does not end by itself"},
	{`^(curl|install|openssl|logrotate|sudo|kill) `, "it names what the operator has"},
	{`[<…]|NAME|\.\.\.`, "it is a form to fill in"},
	{`^(nagaya|systemctl|journalctl)( -\S+)*$|^nagaya (gate run|plan|simulate)$`, "it is part of a sentence"},
	{`^systemctl (stop|disable|mask|reboot|poweroff)`, "what comes after it needs what it stops"},
	{`^nagaya (address claim|leave$|address release)`, "the handover has it"},
}

// codes are the exit codes, other than 0, by which a command answers a question.
var codes = map[string][]int{
	"nagaya gate check": {1},
	"nagaya gate run":   {124}, // its time may not have come when the test's patience ends
	"nagaya gate wait":  {124},
	"nagaya doctor":     {1},
	"systemctl status":  {3},
}

// needed are the files that the commands name.
var needed = map[string]File{
	"/root/cpu.csv": Text(days), "/root/web.csv": Text(days), "/root/mail.csv": Text(days),
	"/root/jobs.yaml": Text(jobs), "/root/mail.yaml": Text(jobs),
	"/usr/local/bin/report":      {Content: []byte("#!/bin/sh\n"), Mode: 0o755},
	"/etc/nagaya/batches/report": {Content: []byte("#!/bin/sh\n"), Mode: 0o755},
}

// days is a load of a few percent, two whole days and more, each quarter of an hour.
var days = func() string {
	var b strings.Builder
	for at := range 3 * 24 * 4 {
		fmt.Fprintf(&b, "%s,%d\n", time.Date(2026, 3, 2, 0, 15*at, 0, 0, time.UTC).Format(time.RFC3339), 3+at%4)
	}
	return b.String()
}()

const (
	jobs = "jobs:\n  - {name: report, schedule: \"30 1 * * *\", need: 10, deadline: 6h}\n"
)

// documents runs every command that the documents show, or says why not.
func documents(m *machine) {
	must(m.t, m.Put(m.t.Context(), needed))
	pages, err := filepath.Glob("../../../docs/*.md")
	must(m.t, err)
	run := 0
	done := map[string]bool{}
	for _, page := range append(pages, "../../../README.md") {
		text, err := os.ReadFile(page)
		must(m.t, err)
		for _, command := range commands(string(text)) {
			why := ""
			for _, e := range excused {
				if why == "" && regexp.MustCompile(e.command).MatchString(command) {
					why = e.why
				}
			}
			if done[command] || why != "" {
				if why != "" {
					m.t.Logf("%s: not run: %s (%s)", filepath.Base(page), command, why)
				}
				continue
			}
			done[command] = true
			run++
			out, code := m.try("bash", "-c", "cd /root && SYSTEMD_PAGER= timeout 10 "+command)
			allowed := code == 0
			for begin, others := range codes {
				allowed = allowed || strings.HasPrefix(command, begin) && slices.Contains(others, code)
			}
			if !allowed {
				m.t.Errorf("%s: %s: exit code %d\n%.1500s", filepath.Base(page), command, code, out)
			}
		}
	}
	m.t.Logf("%d commands were run", run)
	if run < 20 {
		m.t.Error("the search is blind")
	}
}

func TestCommandsAreFound(t *testing.T) {
	const page = "Say `nagaya address`:\n\n```\n$ nagaya status\nnagaya 1.0 is here\n```\n\n```sh\nmake build \\\n  all # both\n```\n```yaml\nnagaya no\n```\n```\na drawing\n```\n"
	want := []string{"make build    all # both", "nagaya address", "nagaya status"}
	if have := commands(page); !slices.Equal(have, want) {
		t.Errorf("%q, want %q", have, want)
	}
}
