package stage

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/chromium"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

var pictures = flag.String("pictures", "", "write pictures of the page for the documents into this `directory`")

// quietly has the agent of a stage see processors that do nothing, instead of this machine's with its tests.
func quietly(t *testing.T, s *Stage) {
	t.Helper()
	dir := t.TempDir()
	stat, err := os.ReadFile("/proc/stat")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "stat"), stat, 0o644))
	for _, program := range []string{"nagaya-sim", "household"} {
		must(t, os.Symlink(filepath.Join(s.Bin, program), filepath.Join(dir, program)))
	}
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$0\" /proc/stat && exec \"$@\"' %s/stat %s/nagaya \"$@\"\n", dir, s.Bin)
	must(t, os.WriteFile(filepath.Join(dir, "nagaya"), []byte(script), 0o755))
	s.Bin = dir
}

// The page of an agent that has run for days, with four services and jobs, has no faults in a browser. With -pictures it is that of the
// documents, after a week.
func TestPictures(t *testing.T) {
	browser := chromium.Start(t)
	port, _, err := FreePorts()
	must(t, err)
	var hosts []string
	for _, v := range visitors {
		hosts = append(hosts, v.host)
	}
	s := newStage(t, Options{Hosts: hosts, Config: claimConfig + fmt.Sprintf("metrics: {listen: '127.0.0.1:%d'}\ncredit: {cloudwatch: 1s, every: 1s}\ngate: {reserve: 10}\n", port)})
	quietly(t, s)
	must(t, s.StartCloud(t.Context()))
	lasts := 24 * time.Hour
	dir := *pictures
	if dir == "" {
		dir = t.TempDir()
	} else {
		lasts *= 8
	}
	balance, learnt := live(t, lasts, s.Path("state", keep.Dir), s.InstanceID)
	if *pictures == "" {
		balance = 250 // enough for the job at any hour: how much a single day leaves depends on the hour of the test
	}
	must(t, atomicfile.WriteJSON(s.Path("state", "credit.json"), learnt))
	must(t, s.SetBalance(t.Context(), balance))
	must(t, s.StartAgent())
	for i, host := range hosts {
		c := service(strings.TrimSuffix(host, ".example.com"), fmt.Sprint(7+i), host)
		if i == 3 {
			c.Labels["nagaya.prot"] = "8080"
		}
		run(t, s, c)
	}
	for _, host := range hosts {
		answers(t, s, host, "")
	}
	told(t, s, "label-unknown", "wiki")
	held(t, s)
	settled(t, s)
	job := exec.Command(filepath.Join(s.Bin, "nagaya"), "gate", "run", "--name", "images", "--need", "12", "--", filepath.Join(s.Bin, "household"), "-listen", "")
	job.Env = append(s.agentEnv(), "NAGAYA_CONFIG="+s.ConfigFile())
	must(t, job.Start())
	defer func() {
		_ = job.Process.Signal(syscall.SIGTERM) // which it passes on
		_ = job.Wait()
	}()
	shows(t, s, "a job that runs", func(st report.Status) bool {
		return slices.ContainsFunc(st.Gate.Decision.Jobs, func(e gate.Entry) bool { return e.Phase == gate.Running })
	})

	for _, p := range []struct {
		name string
		look chromium.Look
		part string // what is at the top
	}{
		{"page", chromium.Look{Width: 1200, Height: 920}, "header"},
		{"page-dark", chromium.Look{Width: 1200, Height: 1060, Dark: true}, "#credits"},
		{"page-hosts", chromium.Look{Width: 1200, Height: 590}, "#jobs"},
		{"page-phone", chromium.Look{Width: 390, Height: 844, Dark: true}, "header"},
	} {
		tab := browser.Open(t, p.look)
		tab.Visit(fmt.Sprintf("http://127.0.0.1:%d/?since=1w", port))
		tab.Until("document.querySelectorAll('#plots canvas').length >= 4")
		chromium.Eval[bool](tab, fmt.Sprintf("(document.querySelector(%q).scrollIntoView(), true)", p.part))
		if p.look.Width > 1000 && p.part != "#jobs" {
			tab.Point("#plots .u-over", 50, 0)
			tab.Until(`/\d:\d/.test(document.querySelector('#plots .u-legend .u-value').textContent)`)
		}
		picture := tab.Picture(false)
		if len(picture) > 200_000 {
			t.Errorf("%s has %d bytes, at most 200000 may be", p.name, len(picture))
		}
		must(t, os.WriteFile(filepath.Join(dir, p.name+".png"), picture, 0o644))
		if faults := tab.Faults(); len(faults) > 0 {
			t.Errorf("%s: faults %q", p.name, faults)
		}
	}
}
