package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
)

func TestPlan(t *testing.T) {
	trace, jobs := written(t, "cpu.csv", recorded()), written(t, "jobs.yaml", nightly)
	quiet := written(t, "quiet.csv", strings.ReplaceAll(recorded(), ",13\n", ",1\n"))
	args := []string{
		"plan", "--config", os.DevNull, "--samples", "10", "--types", "t3.micro,t3.small",
		"--instance", "name=web,type=t3.small,trace=" + trace + ",memory=0.4",
		"--instance", "name=mail,type=t3.micro,trace=" + quiet + ",jobs=" + jobs,
	}
	got := nagaya(t, append(args, "--json")...)
	var a rehearsal.Answer
	if err := json.Unmarshal([]byte(got.out), &a); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if a.Days != 7 || a.Before <= a.After || len(a.Groups) == 0 {
		t.Errorf("%+v", a)
	}
	got = nagaya(t, append(args, "--price", "t3.small=1")...)
	if got.code != exitOK || !strings.Contains(got.out, "before $737.59 a month") || !strings.Contains(got.out, "does not count: mail") {
		t.Errorf("%+v", got)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{nil, "--instance is missing"},
		{[]string{"--instance", "web"}, `"web" is not like name=web`},
		{[]string{"--instance", "type=t3.micro,trace=" + trace}, "name= is missing"},
		{[]string{"--instance", "name=a,trace=" + trace}, "type= is missing"},
		{[]string{"--instance", "name=a,type=t3.huge,trace=" + trace}, "not burstable or not known"},
		{[]string{"--instance", "name=a,type=x9.large,trace=" + trace}, "how many vCPUs x9.large has is not known here; give vcpus="},
		{[]string{"--instance", "name=a,type=x9.large,vcpus=2,trace=" + trace}, "what x9.large costs is not known; give it, as in --price x9.large="},
		{append(args[1:], "--system-memory", "-1"), "--system-memory"},
		{[]string{"--instance", "name=a,type=t3.micro"}, "trace= is missing"},
		{[]string{"--instance", "name=a,type=t3.micro,disk=3,trace=" + trace}, `"disk" is none of`},
		{[]string{"--instance", "name=a,type=t3.micro,memory=much,trace=" + trace}, "memory"},
		{append(args[1:], "--instance", "name=web,type=t3.micro,trace="+trace), "already"},
		{append(args[1:], "--sure", "0"), "--sure"},
		{append(args[1:], "--samples", "0"), "--samples"},
		{append(args[1:], "--price", "cheap"), "--price"},
		{append(args[1:], "--price", "t3.nano=1"), "not among"},
		{append(args[1:], "--types", "m5.large"), "--types"},
		{append(args[1:], "--types", "t8i.micro"), "--price t8i.micro="},
	} {
		got := nagaya(t, append([]string{"plan"}, row.args...)...)
		if got.code != exitUsage || !strings.Contains(got.errs, row.want) {
			t.Errorf("%v: %+v, want %q", row.args, got, row.want)
		}
	}
}

// An instance of today may be of any type; the system's memory counts on the one that takes its place.
func TestPlanOfOtherTypes(t *testing.T) {
	trace := written(t, "cpu.csv", recorded())
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"name=web,type=M5.large,trace=" + trace}, "before $70.08 a month, after $7.59"},
		{[]string{"name=web,type=x9.large,vcpus=2,trace=" + trace, "--price", "x9.large=0.2"}, "before $146.00 a month, after $7.59"},
		{[]string{"name=web,type=m5.large,trace=" + trace + ",memory=1.6"}, "after $15.18"},
		{[]string{"name=web,type=m5.large,trace=" + trace + ",memory=1.8"}, "after $30.37"},
		{[]string{"name=web,type=m5.large,trace=" + trace + ",memory=1.8", "--system-memory", "0.1"}, "after $15.18"},
		{[]string{"name=web,type=m5.large,trace=" + trace + ",memory=9"}, "web       m5.large"},
	} {
		got := nagaya(t, append([]string{"plan", "--config", os.DevNull, "--samples", "5", "--instance"}, row.args...)...)
		if got.code != exitOK || !strings.Contains(got.out, row.want) {
			t.Errorf("%v: %+v, want %q", row.args, got, row.want)
		}
	}
}
