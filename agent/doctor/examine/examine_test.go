package examine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// want compares a finding.
func want(t *testing.T, what string, got []doctor.Finding, level doctor.Level, text, remedy string) {
	t.Helper()
	if len(got) != 1 || got[0].Level != level || !strings.Contains(got[0].Text, text) || !strings.Contains(got[0].Remedy, remedy) || (got[0].Remedy == "") != (level == doctor.OK) {
		t.Errorf("%s: %+v; want %s with %q and %q", what, got, level, text, remedy)
	}
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	want(t, "taken", []doctor.Finding{Port(port, false, nil)}, doctor.Fail, "another program", fmt.Sprintf("sport = :%d", port))
	want(t, "ours", []doctor.Finding{Port(port, true, nil)}, doctor.OK, "nagaya's nginx", "")
	want(t, "not seen", []doctor.Finding{Port(port, false, fs.ErrPermission)}, doctor.Warn, "cannot be seen", "root")
	l.Close()
	want(t, "free", []doctor.Finding{Port(port, false, nil)}, doctor.OK, "is free", "")
}

// An agent that only root may ask is there: the remedy is not to start it.
func TestAgentThatMayNotBeAsked(t *testing.T) {
	x := &examination{Parts: Parts{Agent: func(context.Context) (int, int, error) { return 0, 0, errors.Join(ErrNoAgent, fs.ErrPermission) }}}
	x.running(t.Context())
	want(t, "another user", x.Findings, doctor.Warn, "may not ask", "root")
}

func TestRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	for text, runs := range map[string]bool{fmt.Sprintln(os.Getpid()): true, "0\n": false, "-1": false, "x": false, "": false, "2147483646\n": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if is, err := Runs(file); is != runs || err != nil {
			t.Errorf("pid %q: runs %v", text, !runs)
		}
	}
	if is, err := Runs(file + ".none"); is || err != nil {
		t.Error("without a file")
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, row := range map[string]struct {
		level doctor.Level
		text  string
	}{
		filepath.Join(dir, "not", "there"): {doctor.OK, "can be written to"},
		file:                               {doctor.Fail, "not a directory"},
		filepath.Join(file, "below"):       {doctor.Fail, "not a directory"},
	} {
		got := Directory("state-dir", path)
		if got.Level != row.level || !strings.Contains(got.Text, row.text) {
			t.Errorf("%s: %+v", path, got)
		}
		if got.Level == doctor.Fail && !strings.Contains(got.Remedy, "state-dir") {
			t.Errorf("%s: remedy %q", path, got.Remedy)
		}
	}
}

// A fresh machine of 2 GiB has 197 MiB free in /run; what is there needs a few.
func TestSpaceIsJudgedByWhatIsNeeded(t *testing.T) {
	for _, row := range []struct {
		setting string
		free    uint64
		level   doctor.Level
		text    string
	}{
		{"run-dir", 197 << 20, doctor.OK, "/x (run-dir) can be written to, 197 MiB are free"},
		{"run-dir", 3 << 20, doctor.Warn, "only 3 MiB are left for /x (run-dir), which needs 4 MiB"},
		{"state-dir", 100 << 20, doctor.OK, "100 MiB are free"},
		{"state-dir", 60 << 20, doctor.Warn, "needs 64 MiB"},
		{"log-dir", 197 << 20, doctor.Warn, "needs 200 MiB"},
		{"log-dir", 5 << 30, doctor.OK, "5 GiB are free"},
	} {
		if got := spaceFinding(row.setting, "/x", row.free); got.Level != row.level || !strings.Contains(got.Text, row.text) {
			t.Errorf("%s with %d bytes: %+v", row.setting, row.free, got)
		}
	}
}

func TestReservedPorts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ecs.config")
	if got := ReservedPorts(file, 80); got != nil {
		t.Errorf("without ECS: %+v", got)
	}
	for text, level := range map[string]doctor.Level{
		"ECS_CLUSTER=x\n": doctor.Warn,
		"":                doctor.Warn,
		"ECS_CLUSTER=x\nECS_RESERVED_PORTS=[22,80,443,2375]\n": doctor.OK,
		"  ECS_RESERVED_PORTS=[22, 8080, 4430]":                doctor.Warn,
		"ECS_RESERVED_PORTS=[443,80]":                          doctor.OK,
		"#ECS_RESERVED_PORTS=[443,80]":                         doctor.Warn,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		remedy := ""
		if level != doctor.OK {
			remedy = "ECS_RESERVED_PORTS=["
		}
		want(t, text, ReservedPorts(file, 80, 443), level, "ECS", remedy)
	}
}

// answering is a server of AWS with a clock of its own.
type answering struct {
	date string
	err  error
}

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Header: http.Header{"Date": {a.date}}}, a.err
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Second / 3) // virtual
		for _, row := range []struct {
			off   time.Duration
			level doctor.Level
			text  string
		}{
			{0, doctor.OK, "agrees"},
			{3 * time.Second, doctor.OK, "agrees"},
			{30 * time.Second, doctor.Warn, "30s behind"},
			{-time.Minute, doctor.Warn, "1m0s ahead of"},
			{6 * time.Minute, doctor.Fail, "refuses"},
			{-time.Hour, doctor.Fail, "1h0m0s ahead of"},
		} {
			c := &Clock{Next: answering{date: time.Now().UTC().Add(row.off).Format(http.TimeFormat)}}
			if c.Finding() != nil {
				t.Error("a finding without an answer")
			}
			if _, err := c.RoundTrip(&http.Request{}); err != nil {
				t.Fatal(err)
			}
			remedy := ""
			if row.level != doctor.OK {
				remedy = "169.254.169.123"
			}
			want(t, row.off.String(), c.Finding(), row.level, row.text, remedy)
		}
		for _, a := range []answering{{err: errors.New("no")}, {date: "yesterday"}} {
			c := &Clock{Next: a}
			_, err := c.RoundTrip(&http.Request{})
			if !errors.Is(err, a.err) || c.Finding() != nil {
				t.Errorf("%+v: %v, %+v", a, err, c.Finding())
			}
		}
	})
}

// pretended answers with one instance.
type pretended struct {
	EC2
	i   types.Instance
	err error
}

func (p pretended) DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{{Instances: []types.Instance{p.i}}}}, p.err
}

func TestInstance(t *testing.T) {
	id, key, owner := "i-1", "nagaya:nginx-http-port", "Owner"
	for name, row := range map[string]struct {
		tokens    types.HttpTokensState
		hops      int32
		container bool
		level     doctor.Level
		text      string
		remedy    string
	}{
		"host":                 {"required", 1, false, doctor.OK, "hop limit 1", ""},
		"host, open":           {"required", 2, false, doctor.OK, "tasks in bridge mode", ""},
		"container":            {"required", 2, true, doctor.OK, "hop limit 2", ""},
		"container, too short": {"required", 1, true, doctor.Fail, "hop limit", "--http-put-response-hop-limit 2"},
		"version 1":            {"optional", 1, false, doctor.Warn, "version 1", "--http-tokens required"},
	} {
		i := types.Instance{InstanceId: &id, MetadataOptions: &types.InstanceMetadataOptionsResponse{HttpTokens: row.tokens, HttpPutResponseHopLimit: &row.hops}}
		got, err := Instance(t.Context(), pretended{i: i}, identity.Instance{ID: id, TagsKnown: true}, row.container)
		if err != nil || len(got) != 2 {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		want(t, name, got[:1], row.level, row.text, row.remedy)
	}
	i := types.Instance{InstanceId: &id, Tags: []types.Tag{{Key: &owner}}}
	got, _ := Instance(t.Context(), pretended{i: i}, identity.Instance{ID: id}, false)
	want(t, "tags that do not matter", got, doctor.OK, "no setting", "")
	i.Tags = append(i.Tags, types.Tag{Key: &key})
	got, _ = Instance(t.Context(), pretended{i: i}, identity.Instance{ID: id}, false)
	want(t, "a setting that is not read", got, doctor.Warn, key, "--instance-metadata-tags enabled")
	got, _ = Instance(t.Context(), pretended{i: i}, identity.Instance{ID: "i-2"}, false)
	want(t, "another instance", got, doctor.Warn, "does not know", "try again")
	if _, err := Instance(t.Context(), pretended{err: net.ErrClosed}, identity.Instance{ID: id}, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestDockerDoesNotAnswer(t *testing.T) {
	for _, host := range []string{"unix://" + filepath.Join(t.TempDir(), "none.sock"), "tcp://127.0.0.1:1"} {
		want(t, host, []doctor.Finding{Docker(t.Context(), host)}, doctor.Fail, host, "docker.host")
	}
}

func TestAtLeast(t *testing.T) {
	for have, enough := range map[string]bool{"1.40": true, "1.41": true, "2.0": true, "1.39": false, "1.4": false, "0.99": false, "": false, "x": false, "1": false} {
		if versions.LessThan(have, leastAPI) == enough {
			t.Errorf("API %q is enough: %v", have, !enough)
		}
	}
}
