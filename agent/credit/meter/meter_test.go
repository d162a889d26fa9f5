package meter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, text string
		want       ticks
		err        string
	}{
		{name: "file:stat-xen-steal", want: ticks{busy: 20247 + 17 + 8498 + 3 + 273, steal: 9000, online: 2}},
		{name: "file:stat-old-kernel", want: ticks{busy: 1200, online: 1}},
		{name: "empty", err: "no line"},
		{name: "no cpu line", text: "intr 5\ncpu 1 2 3 4\n", err: "no line"},
		{name: "too few", text: "cpu 1 2 3\n", err: "3 fields"},
		{name: "letters", text: "cpu 1 x 3 4\n", err: "field 2"},
		{name: "negative", text: "cpu 1 -1 3 4\n", err: "field 2"},
		{name: "huge", text: "cpu 1 99999999999999999999999 3 4\n", err: "field 2"},
		{name: "only one processor's line", text: "cpu0 1 2 3 4\n", err: "no line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text
			if name, ok := strings.CutPrefix(tt.name, "file:"); ok {
				b, _ := os.ReadFile(filepath.Join("testdata", name))
				text = string(b)
			}
			got, err := parseStat(text)
			if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %+v, %v; want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("cpu  20247 17 8498 169916 583 3 273 9000 5000 11\ncpu0 1 2 3 4\nintr 5")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseStat(text); err == nil && got.online < 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestThisMachine(t *testing.T) {
	cpu, err := (&procStat{dir: "/proc"}).read()
	if err != nil || cpu.Busy <= 0 || cpu.Online < 1 || len(cpu.Boot) != 36 {
		t.Errorf("%+v, %v", cpu, err)
	}
}

func TestCountersNeverGoBackwards(t *testing.T) {
	dir := t.TempDir()
	p := &procStat{dir: dir}
	for _, step := range []struct {
		user, steal int
		busy        float64
		cpus        string
	}{
		{6000, 0, 1, "cpu0\ncpu1\n"},
		{12000, 6000, 2, "cpu0\ncpu1\n"},
		{6000, 0, 2, "cpu0\n"},         // reset, and a processor went
		{9000, 6000, 2.5, "cpu0\n"},    // goes on from there
		{9000, 6000, 2.5, "cpu0\nc\n"}, // nothing used
	} {
		write(t, dir+"/stat", fmt.Sprintf("cpu %d 0 0 5 5 0 0 %d\n%sintr 1\n", step.user, step.steal, step.cpus))
		got, err := p.read()
		if err != nil || !near(got.Busy, step.busy) || got.Online != strings.Count(step.cpus, "cpu") {
			t.Errorf("user %d: %+v, %v; want busy %v", step.user, got, err, step.busy)
		}
	}
}

// How long processes waited is read where the kernel tells, and not asked for again where it does not.
func TestPressure(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stat", "cpu 6000 0 0 5\ncpu0\n")
	if cpu, err := (&procStat{dir: dir}).read(); err != nil || cpu.Waiting != 0 {
		t.Errorf("a kernel without it: %+v, %v", cpu, err)
	}
	p := &procStat{dir: dir}
	write(t, dir+"/pressure/cpu", "some avg10=1.00 avg60=2.00 avg300=3.00 total=90000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
	if cpu, err := p.read(); err != nil || !near(cpu.Waiting, 1.5) {
		t.Errorf("%+v, %v", cpu, err)
	}
}

func BenchmarkRead(b *testing.B) {
	p := &procStat{dir: "/proc"}
	for b.Loop() {
		if _, err := p.read(); err != nil {
			b.Fatal(err)
		}
	}
}

func containerID(c string) string { return strings.Repeat(c, 64) }

func TestBatchCgroups(t *testing.T) {
	id := containerID("a")
	for name, tt := range map[string]struct {
		path, format string
		unit         time.Duration
	}{
		"v1 docker":         {"cpuacct/docker/" + id + "/cpuacct.usage", "%d\n", time.Nanosecond},
		"v1 ecs task":       {"cpuacct/ecs/0123456789/" + id + "/cpuacct.usage", "%d\n", time.Nanosecond},
		"v2 systemd":        {"system.slice/docker-" + id + ".scope/cpu.stat", "nr_periods 7\nusage_usec %d\nuser_usec 5\n", time.Microsecond},
		"v2 cgroupfs":       {"docker/" + id + "/cpu.stat", "usage_usec %d\n", time.Microsecond},
		"v2 ecs task slice": {"ecstasks.slice/ecstasks-0123.slice/docker-" + id + ".scope/cpu.stat", "usage_usec %d\n", time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			set := func(credits float64) {
				write(t, filepath.Join(root, tt.path), fmt.Sprintf(tt.format, int64(credits*float64(time.Minute/tt.unit))))
			}
			b := newBatches(root)
			now := time.Unix(1000, 0)
			step := func(want float64, ids ...string) {
				t.Helper()
				now = now.Add(time.Minute)
				if got := b.read(ids, now, 2); !near(got, want) {
					t.Errorf("got %v credits, want %v", got, want)
				}
			}
			set(5)
			step(0, id) // used before the meter began
			set(5.5)
			step(0.5, id)
			set(0.25) // started again under the same id
			step(0.5, id)
			set(1)
			step(1.25, id)
			set(9) // more than two processors can give in a minute
			step(3.25, id)
			step(3.25) // gone
			set(10)
			step(5.25, id) // back: counts from its start, bounded
		})
	}
}

func TestBatchAppearsLate(t *testing.T) {
	root, id := t.TempDir(), containerID("b")
	b := newBatches(root)
	now := time.Unix(1000, 0)
	b.read(nil, now, 2)
	if got := b.read([]string{id}, now.Add(5*time.Second), 2); got != 0 {
		t.Errorf("a cgroup that is not there used %v", got)
	}
	write(t, root+"/docker/"+id+"/cpu.stat", "usage_usec 60000000\n")
	if got := b.read([]string{id}, now.Add(10*time.Second), 2); got != 0 {
		t.Errorf("searched again too soon: %v", got)
	}
	if got := b.read([]string{id}, now.Add(2*time.Minute), 2); !near(got, 1) {
		t.Errorf("got %v, want the minute used since the container's start", got)
	}
}

func TestBatchIDsCannotEscape(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/cpu.stat", "usage_usec 60000000\n")
	b := newBatches(root + "/sub")
	now := time.Unix(1000, 0)
	b.read(nil, now, 2)
	got := b.read([]string{"", "..", "../..", containerID("."), containerID("A"), "abc"}, now.Add(time.Hour), 2)
	if got != 0 || len(b.by) != 0 {
		t.Errorf("got %v credits from %v", got, b.by)
	}
}

// cloud is a pretend CloudWatch and EC2.
type cloud struct {
	mu      sync.Mutex
	points  map[string][]cwtypes.Datapoint
	err     error
	modeErr error
	mode    string
	asked   []cloudwatch.GetMetricStatisticsInput
	modes   int
}

func (c *cloud) GetMetricStatistics(_ context.Context, in *cloudwatch.GetMetricStatisticsInput, opts ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricStatisticsOutput, error) {
	var o cloudwatch.Options
	for _, f := range opts {
		f(&o)
	}
	if o.Region != "ap-northeast-1" {
		return nil, fmt.Errorf("asked in Region %q", o.Region)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, *in)
	if c.err != nil {
		return nil, c.err
	}
	return &cloudwatch.GetMetricStatisticsOutput{Datapoints: c.points[*in.MetricName]}, nil
}

func (c *cloud) DescribeInstanceCreditSpecifications(_ context.Context, in *ec2.DescribeInstanceCreditSpecificationsInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstanceCreditSpecificationsOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.modes++
	if c.modeErr != nil {
		return nil, c.modeErr
	}
	return &ec2.DescribeInstanceCreditSpecificationsOutput{InstanceCreditSpecifications: []ec2types.InstanceCreditSpecification{
		{InstanceId: &in.InstanceIds[0], CpuCredits: &c.mode},
	}}, nil
}

// set changes what is answered from now on.
func (c *cloud) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// calls returns how often CloudWatch and EC2 were asked.
func (c *cloud) calls() (points, modes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked), c.modes
}

func point(age time.Duration, v float64) cwtypes.Datapoint {
	at := time.Now().Add(-age)
	return cwtypes.Datapoint{Timestamp: &at, Average: &v, Sum: &v}
}

func instance(typ string) identity.Identity {
	return identity.Identity{Instance: identity.Instance{
		Known: true, ID: "i-1", Type: typ, Region: "ap-northeast-1", StartedAt: time.Now().Add(-time.Hour),
	}}
}

// trial runs a meter inside a bubble with a fixed /proc and hands the test the newest reading.
type trial struct {
	dir  string
	who  chan identity.Identity
	stop func()

	mu   sync.Mutex
	last credit.Reading
	puts int
}

func (tr *trial) put(r credit.Reading) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.last = r
	tr.puts++
}

// now returns the newest reading and how many there were.
func (tr *trial) now() (credit.Reading, int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.last, tr.puts
}

func start(t *testing.T, o Options) *trial {
	t.Helper()
	tr := &trial{dir: t.TempDir(), who: make(chan identity.Identity)}
	write(t, tr.dir+"/proc/stat", "cpu 6000 0 0 0\ncpu0 6000 0 0 0\n")
	write(t, tr.dir+"/proc/sys/kernel/random/boot_id", "boot-1\n")
	o.Proc, o.Cgroup = tr.dir+"/proc", tr.dir+"/cgroup"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Run(ctx, o, tr.who, tr.put)
	}()
	tr.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v after its context ended", err)
		}
	}
	synctest.Wait()
	return tr
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func codes(r credit.Reading) string {
	var s []string
	for _, p := range r.Problems {
		s = append(s, p.Code)
	}
	return strings.Join(s, " ")
}

func TestRunReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{})
		defer tr.stop()
		if r, _ := tr.now(); !r.CPU.Known || !near(r.CPU.Busy, 1) || r.CPU.Boot != "boot-1" || r.InstanceID != "" || r.Cloud.Balance.Known {
			t.Errorf("first reading: %+v", r)
		}
		write(t, tr.dir+"/proc/stat", "cpu 12000 0 0 0\n")
		wait(5 * time.Second)
		if r, n := tr.now(); !near(r.CPU.Busy, 2) || n != 2 {
			t.Errorf("after 5 s, %d puts: %+v", n, r.CPU)
		}
		if err := os.Remove(tr.dir + "/proc/stat"); err != nil {
			t.Fatal(err)
		}
		wait(5 * time.Second)
		if r, _ := tr.now(); r.CPU.Known || codes(r) != "cpu-time-unreadable" {
			t.Errorf("without /proc/stat: %+v", r)
		}
	})
}

func TestRunAsksCloudWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{mode: "unlimited", points: map[string][]cwtypes.Datapoint{
			// Unordered, as CloudWatch answers, with points that no bank can have.
			"CPUCreditBalance":        {point(10*time.Minute, 90), point(15*time.Minute, 80), point(-time.Hour, 5), point(5*time.Minute, -1), {}},
			"CPUSurplusCreditBalance": {point(10*time.Minute, 3)},
			"CPUCreditUsage":          {point(10*time.Minute, 1), point(20*time.Minute, 2), point(15*time.Minute, 3)},
		}}
		tr := start(t, Options{CloudWatch: c, EC2: c})
		defer tr.stop()
		wait(time.Hour)
		if n, modes := c.calls(); n+modes != 0 {
			t.Fatal("asked before the instance was known")
		}
		tr.who <- identity.Identity{}
		wait(time.Minute)
		if n, modes := c.calls(); n+modes != 0 {
			t.Fatal("asked about an unknown instance")
		}
		began := time.Now()
		c.set(func() {
			c.points["CPUCreditBalance"] = []cwtypes.Datapoint{point(10*time.Minute, 90), point(15*time.Minute, 80), point(-time.Hour, 5), point(5*time.Minute, -1), {}}
		})
		tr.who <- instance("t3.small")
		synctest.Wait()
		r, _ := tr.now()
		if !r.Cloud.Balance.Known || r.Cloud.Balance.Value != 90 || !r.Cloud.Balance.At.Equal(began.Add(-10*time.Minute)) {
			t.Errorf("balance: %+v", r.Cloud.Balance)
		}
		if r.Cloud.Surplus.Value != 3 || len(r.Cloud.Usage) != 3 || r.Cloud.Usage[0].Value != 2 || r.Cloud.Usage[2].Value != 1 {
			t.Errorf("cloud: %+v", r.Cloud)
		}
		if r.Mode != credit.Unlimited || !r.ModeKnown || r.Type != "t3.small" || codes(r) != "" {
			t.Errorf("reading: %+v", r)
		}
		c.mu.Lock()
		asked := slices.Clone(c.asked)
		c.mu.Unlock()
		for _, in := range asked {
			if d := in.EndTime.Sub(*in.StartTime); d < 30*time.Minute || *in.Period != periods[*in.MetricName] || *in.Dimensions[0].Value != "i-1" || *in.Namespace != "AWS/EC2" {
				t.Errorf("asked %v of %s", d, *in.MetricName)
			}
		}
		// A later answer without points keeps the last one; three questions every five minutes, one an hour.
		n, _ := c.calls()
		c.set(func() { c.points, c.mode = nil, "standard" })
		tr.who <- instance("t3.small")
		wait(time.Hour - time.Second)
		if got, modes := c.calls(); got-n != 11*3 || modes != 1 {
			t.Errorf("%d questions and %d for the mode in an hour", got-n, modes)
		}
		if r, _ := tr.now(); r.Cloud.Balance.Value != 90 || !r.Cloud.Balance.Known {
			t.Errorf("an empty answer took the balance away: %+v", r.Cloud)
		}
		wait(time.Minute)
		if r, _ := tr.now(); r.Mode != credit.Standard {
			t.Errorf("mode after an hour: %v", r.Mode)
		}
		// Another type: what was known does not hold any more.
		tr.who <- instance("m5.large")
		n, _ = c.calls()
		wait(time.Hour)
		r, _ = tr.now()
		if got, _ := c.calls(); r.Cloud.Balance.Known || r.ModeKnown || got != n {
			t.Errorf("m5.large: %+v, %d questions", r, got-n)
		}
	})
}

func TestRunReportsRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{
			err:     fmt.Errorf("operation: %w", &smithy.GenericAPIError{Code: "AccessDenied", Message: "User \x1b[2J is not authorized"}),
			modeErr: &smithy.GenericAPIError{Code: "UnauthorizedOperation", Message: "no"},
		}
		tr := start(t, Options{CloudWatch: c, EC2: c})
		defer tr.stop()
		tr.who <- instance("t3.small")
		synctest.Wait()
		r, _ := tr.now()
		if codes(r) != "cloudwatch-denied credit-mode-denied" {
			t.Fatalf("problems: %+v", r.Problems)
		}
		for i, action := range []string{"cloudwatch:GetMetricStatistics", "ec2:DescribeInstanceCreditSpecifications"} {
			if p := r.Problems[i]; !strings.Contains(p.Hint, action) || strings.Contains(p.Text, "\x1b") {
				t.Errorf("%+v does not name %s or passes control characters", p, action)
			}
		}
		wait(6 * time.Hour)
		if n, _ := c.calls(); n < 60 || n > 200 {
			t.Errorf("%d questions in 6 h of refusal, want a backoff of up to 5 minutes", n)
		}
		c.set(func() {
			c.err, c.modeErr, c.mode = nil, nil, "standard"
			c.points = map[string][]cwtypes.Datapoint{"CPUCreditBalance": {point(0, 42)}}
		})
		wait(2 * time.Hour)
		if r, _ := tr.now(); codes(r) != "" || r.Cloud.Balance.Value != 42 || r.Cloud.Surplus.Known {
			t.Errorf("after the permission was given: %+v", r)
		}
		c.set(func() { c.err = errors.New("dial tcp: connection refused") })
		wait(10 * time.Minute)
		if r, _ := tr.now(); codes(r) != "cloudwatch-failed" || !r.Cloud.Balance.Known {
			t.Errorf("CloudWatch unreachable: %+v", r)
		}
	})
}

func TestRunWithoutPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{mode: "standard"}
		tr := start(t, Options{CloudWatch: c, EC2: c})
		defer tr.stop()
		young := instance("t3.small")
		young.Instance.StartedAt = time.Now()
		tr.who <- young
		wait(10 * time.Minute)
		if r, _ := tr.now(); codes(r) != "" || r.Cloud.Balance.Known {
			t.Errorf("ten minutes old: %+v", r)
		}
		wait(30 * time.Minute)
		if r, _ := tr.now(); codes(r) != "cloudwatch-no-points" || r.Cloud.Balance.Known {
			t.Errorf("forty minutes old: %+v", r)
		}
	})
}

// periods are what each metric must be asked for with, in seconds.
var periods = map[string]int32{"CPUCreditBalance": 60, "CPUSurplusCreditBalance": 60, "CPUCreditUsage": 300}
