package discover

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

const host = simaws.DefaultInstance

var started = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rig is one Watch on an instance of a simulated cloud.
type rig struct {
	t     *testing.T
	cloud *simaws.Cloud
	o     Options
	// looked is told when the last path of a look has been asked for, and failed
	// of every request that failed.
	looked, failed chan struct{}
	reports        chan identity.Identity
	last           identity.Identity
	count          int
}

// newRig makes the default cloud, and the real SDK's client as the agent makes it,
// except that it gives up sooner.
func newRig(t *testing.T) *rig {
	t.Helper()
	world := simaws.New(simaws.Options{Now: func() time.Time { return started }})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	cloud, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	r := &rig{t: t, cloud: cloud, looked: make(chan struct{}, 1), failed: make(chan struct{}, 1), reports: make(chan identity.Identity, 100)}
	r.o = Options{IMDS: r.client(host, 5*time.Second), AgentURL: cloud.Endpoints().ECSAgent[host], LocalAddr: netip.MustParseAddr("10.0.0.10"), Every: time.Millisecond, Slow: 5 * time.Millisecond, Retry: 10 * time.Millisecond}
	return r
}

// client gives up after a while, which is short where no answer is what is tested.
func (r *rig) client(instance string, timeout time.Duration) *imds.Client {
	return imds.New(imds.Options{
		Endpoint: r.cloud.Endpoints().IMDS[instance], EnableFallback: aws.FalseTernary, ClientEnableState: imds.ClientEnabled, DisableDefaultMaxBackoff: true,
		Retryer:    retry.AddWithMaxBackoffDelay(retry.AddWithMaxAttempts(retry.NewStandard(), 2), time.Millisecond),
		HTTPClient: &http.Client{Transport: r, Timeout: timeout},
	})
}

// RoundTrip passes requests on and watches that all are of version 2.
func (r *rig) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Method == http.MethodGet && q.Header.Get("X-Aws-Ec2-Metadata-Token") == "" {
		r.t.Errorf("a request of version 1: %s", q.URL.Path)
	}
	answer, err := http.DefaultTransport.RoundTrip(q)
	if strings.HasSuffix(q.URL.Path, "/autoscaling/target-lifecycle-state") {
		tell(r.looked)
	}
	if err != nil || answer.StatusCode >= 400 && (q.Method == http.MethodPut || answer.StatusCode != http.StatusNotFound) {
		tell(r.failed)
	}
	return answer, err
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// start lets the watch run until the test ends.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, r.o, func(id identity.Identity) { r.reports <- id }) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
}

// patience bounds every wait of these tests; none is meant to take it.
const patience = 20 * time.Second

// until waits for a report that is as wanted.
func (r *rig) until(what string, wanted func(identity.Identity) bool) identity.Identity {
	r.t.Helper()
	late := time.After(patience)
	for {
		select {
		case id := <-r.reports:
			if r.count++; r.count > 1 && cmp.Equal(r.last, id, comparable) {
				r.t.Errorf("the same was reported twice: %+v", id)
			}
			r.last = id
			if wanted(id) {
				return id
			}
		case <-late:
			r.t.Fatalf("waited for %s; last was %+v", what, r.last)
		}
	}
}

// pass waits until something has happened n times more.
func (r *rig) pass(c chan struct{}, n int) {
	r.t.Helper()
	for range n + 1 { // the first may have happened already
		select {
		case <-c:
		case <-time.After(patience):
			r.t.Fatal("the watch stands still")
		}
	}
}

// quiet fails if anything was reported that until has not seen.
func (r *rig) quiet() {
	r.t.Helper()
	select {
	case id := <-r.reports:
		r.t.Errorf("nothing had changed, and this was reported:\n%s", cmp.Diff(r.last, id, comparable))
	default:
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

var comparable = cmp.Options{cmpopts.EquateComparable(netip.Addr{})}

func known(id identity.Identity) bool { return id.Instance.Known && len(id.Problems) == 0 }

func TestEverythingThatIsKnown(t *testing.T) {
	r := newRig(t)
	_, err := r.cloud.Associate(simaws.DefaultAllocation, host, "")
	r.must(err)
	r.start()
	first := r.until("what the host knows by itself", func(identity.Identity) bool { return true })
	if first.Instance.Known || first.Host.Name == "" || first.Host.LocalAddr != r.o.LocalAddr {
		t.Errorf("first report %+v; want the host alone", first)
	}
	got := r.until("the instance", known)
	state := r.cloud.State()
	instance, _ := state.Instance(host)
	want := identity.Identity{
		Host: first.Host,
		Instance: identity.Instance{
			Known: true, ID: host, Type: "t3.micro", Region: "ap-northeast-1", Zone: "ap-northeast-1a", AccountID: "123456789012",
			ImageID: "ami-0123456789abcdef0", Architecture: "x86_64", LifeCycle: "on-demand", StartedAt: started.Add(-24 * time.Hour),
			Primary: identity.Interface{
				ID: instance.InterfaceIDs[0], MAC: instance.MAC, SubnetID: "subnet-0a1b2c3d4e5f60718", VPCID: "vpc-0123456789abcdef0",
				LocalAddr: netip.MustParseAddr("10.0.0.10"), PublicAddr: []netip.Addr{netip.MustParseAddr(simaws.DefaultPublicIP)},
			},
			Tags: map[string]string{"Name": "nagaya", "Environment": "demo"}, TagsKnown: true,
		},
		ECS: identity.ECS{Known: true, Cluster: "default", ContainerInstanceARN: state.ContainerInstances[0].ARN, AgentVersion: "Amazon ECS Agent - v1.106.1 (8dfceca6)"},
	}
	if d := cmp.Diff(want, got, comparable); d != "" {
		t.Errorf("identity (-want +got):\n%s", d)
	}

	r.pass(r.looked, 20)
	r.quiet()

	// The address goes and an auto-assigned one comes in its place.
	r.must(r.cloud.Disassociate(simaws.DefaultAllocation))
	r.until("another public address", func(id identity.Identity) bool {
		a := id.Instance.Primary.PublicAddr
		return len(a) == 1 && a[0] != netip.MustParseAddr(simaws.DefaultPublicIP)
	})
}

func TestInstanceTags(t *testing.T) {
	r := newRig(t)
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{Tags: false}))
	r.start()
	if id := r.until("the instance", known); id.Instance.TagsKnown || id.Instance.Tags != nil {
		t.Errorf("tags %v although the metadata shows none", id.Instance.Tags)
	}
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{Tags: true}))
	id := r.until("tags", func(id identity.Identity) bool { return id.Instance.TagsKnown })
	if d := cmp.Diff(map[string]string{"Name": "nagaya", "Environment": "demo"}, id.Instance.Tags); d != "" {
		t.Errorf("tags (-want +got):\n%s", d)
	}
	r.must(r.cloud.SetTags(host, map[string]string{"Name": "  new name "}))
	r.until("the new tags", func(id identity.Identity) bool {
		return len(id.Instance.Tags) == 1 && id.Instance.Tags["Name"] == "new name"
	})
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{Tags: false}))
	r.until("no tags", func(id identity.Identity) bool { return !id.Instance.TagsKnown && id.Instance.Tags == nil })
}

// What comes to and goes from an interface that is not the primary one is seen too,
// and interfaces without a public address cost nothing between the full looks.
func TestOtherInterfaces(t *testing.T) {
	r := newRig(t)
	wide, err := r.cloud.AddInstance(simaws.InstanceSpec{Type: "t3.small", ExtraInterfaces: 2, NoAutoPublicIP: true})
	r.must(err)
	r.o.IMDS = r.client(wide, 5*time.Second)
	r.start()
	id := r.until("the interfaces", func(id identity.Identity) bool { return len(id.Instance.Others) == 2 })
	for _, n := range id.Instance.Others {
		if n.ID == "" || n.ID == id.Instance.Primary.ID || n.MAC == "" || len(n.PublicAddr) != 0 {
			t.Errorf("interface %+v", n)
		}
	}
	public := r.cloud.State().Addresses[0]
	api := ec2.New(ec2.Options{
		Region: r.cloud.Region(), BaseEndpoint: aws.String(r.cloud.Endpoints().EC2),
		Credentials: ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = r.o.IMDS }),
	})
	_, err = api.AssociateAddress(t.Context(), &ec2.AssociateAddressInput{AllocationId: &public.AllocationID, NetworkInterfaceId: &id.Instance.Others[0].ID})
	r.must(err)
	here := func(id identity.Identity) bool {
		return slices.Contains(id.Instance.PublicAddrs(), netip.MustParseAddr(public.PublicIP))
	}
	if id := r.until("the address", here); len(id.Instance.Primary.PublicAddr) != 0 {
		t.Errorf("the primary interface has %v", id.Instance.Primary.PublicAddr)
	}
	r.must(r.cloud.Disassociate(public.AllocationID))
	r.until("its loss", func(id identity.Identity) bool { return !here(id) })
}

func TestNoticesComeAndGo(t *testing.T) {
	r := newRig(t)
	spot, err := r.cloud.AddInstance(simaws.InstanceSpec{LifeCycle: "spot"})
	r.must(err)
	r.o.IMDS = r.client(spot, 5*time.Second)
	r.start()
	r.until("the instance", known)
	at := started.Add(2 * time.Minute)
	soon := time.Now().Add(10 * time.Minute).Truncate(time.Second).UTC()
	tomorrow := soon.Add(24 * time.Hour)
	for _, row := range []struct {
		name    string
		notices simaws.Notices
		want    []identity.Notice
		leaving bool
	}{
		{"spot", simaws.Notices{SpotAction: "terminate", SpotTime: at}, []identity.Notice{{Kind: identity.SpotInterruption, Text: "terminate", At: at}}, true},
		{"none", simaws.Notices{}, nil, false},
		{"rebalance", simaws.Notices{Rebalance: at}, []identity.Notice{{Kind: identity.Rebalance, Text: "rebalance recommended", At: at}}, true},
		{"Auto Scaling, staying", simaws.Notices{TargetLifecycleState: "InService"}, nil, false},
		{"Auto Scaling, going", simaws.Notices{TargetLifecycleState: "Terminated"}, []identity.Notice{{Kind: identity.AutoScalingTermination, Text: "Auto Scaling terminates this instance"}}, true},
		{
			"maintenance",
			simaws.Notices{Maintenance: []simaws.Maintenance{
				{Code: "system-reboot", NotBefore: at},
				{Code: "instance-stop", NotBefore: at, State: "completed"},
			}},
			[]identity.Notice{{Kind: identity.Maintenance, Text: "system-reboot", At: at}},
			false,
		},
		{
			"retirement, far away",
			simaws.Notices{Maintenance: []simaws.Maintenance{{Code: "instance-retirement", NotBefore: tomorrow}}},
			[]identity.Notice{{Kind: identity.Maintenance, Text: "instance-retirement", At: tomorrow}},
			false,
		},
		{
			"retirement",
			simaws.Notices{Maintenance: []simaws.Maintenance{{Code: "instance-retirement", NotBefore: soon}}},
			[]identity.Notice{{Kind: identity.Retirement, Text: "instance-retirement", At: soon}},
			true,
		},
		{"none again", simaws.Notices{}, nil, false},
	} {
		r.must(r.cloud.SetNotices(spot, row.notices))
		wanted := func(id identity.Identity) bool { return cmp.Equal(row.want, id.Notices, cmpopts.EquateEmpty()) }
		if wanted(r.last) {
			r.pass(r.looked, 20)
			r.quiet()
		} else {
			r.until("the notices of "+row.name, wanted)
		}
		if r.last.Leaving() != row.leaving {
			t.Errorf("%s: leaving %v, notices %+v", row.name, r.last.Leaving(), r.last.Notices)
		}
	}
}

// What is never there for an instance is not asked for again and again.
func TestOnDemandIsNotAskedForSpotNotices(t *testing.T) {
	r := newRig(t)
	r.start()
	r.until("the instance", known)
	r.pass(r.looked, 5)
	for action := range r.cloud.Calls().Counts["imds"] {
		if strings.Contains(action, "spot") || strings.Contains(action, "rebalance") {
			t.Errorf("an on-demand instance was asked for %s", action)
		}
	}
}

// Behind a hop limit of 1 the token never arrives. Version 1 is not tried; what
// is known stays known, and the problem is reported once.
func TestHopLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.IMDS = r.client(host, 250*time.Millisecond)
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{HopLimitBlocked: true}))
	r.start()
	id := r.until("the problem", func(id identity.Identity) bool { return len(id.Problems) > 0 })
	if p := id.Problems[0]; p.Code != "imds-unreachable" || p.Severity.String() != "error" || !strings.Contains(p.Hint, "hop limit") || !strings.HasSuffix(p.Text, "does not answer") {
		t.Errorf("problem %+v", p)
	}
	if id.Instance.Known || !id.ECS.Known {
		t.Errorf("identity %+v; want the ECS agent's answer and no instance", id)
	}
	r.pass(r.failed, 4)
	r.quiet()
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{}))
	r.until("the instance", known)

	r.must(r.cloud.SetMetadata(host, simaws.Metadata{HopLimitBlocked: true}))
	r.must(r.cloud.RevokeTokens(host))
	id = r.until("the problem again", func(id identity.Identity) bool { return len(id.Problems) > 0 })
	if !id.Instance.Known || id.Instance.ID != host || id.Problems[0].Severity.String() != "warning" {
		t.Errorf("identity %+v; want the instance still, and a warning", id)
	}
	r.pass(r.failed, 4)
	r.quiet()
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{}))
	r.until("the instance again", known)
}

// A metadata service that breaks off or fails is one problem, not a new one with
// every attempt.
func TestFaultyMetadata(t *testing.T) {
	for name, row := range map[string]struct {
		fault simaws.Fault
		text  string
	}{
		"cut off":    {simaws.Fault{Service: "imds", Drop: "before"}, "does not answer"},
		"forbidden":  {simaws.Fault{Service: "imds", Status: http.StatusForbidden}, "status 403"},
		"broken":     {simaws.Fault{Service: "imds", Status: http.StatusServiceUnavailable}, "status 503"},
		"only part":  {simaws.Fault{Service: "imds", Action: "GET /meta-data/mac", Status: http.StatusInternalServerError}, "status 500"},
		"no version": {simaws.Fault{Service: "imds", Action: "PUT", Status: http.StatusNotFound}, "status 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id, err := r.cloud.AddFault(row.fault)
			r.must(err)
			r.start()
			got := r.until("the problem", func(id identity.Identity) bool { return len(id.Problems) > 0 })
			if p := got.Problems[0]; p.Code != "imds-unreachable" || !strings.Contains(p.Text, row.text) || p.Hint == "" || got.Instance.Known {
				t.Errorf("known %v, problem %+v; want %q in the text", got.Instance.Known, p, row.text)
			}
			r.pass(r.failed, 4)
			r.quiet()
			r.must(r.cloud.ClearFault(id))
			r.until("the instance", known)
		})
	}
}

func TestDisabledByTheEnvironment(t *testing.T) {
	r := newRig(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	r.o.IMDS = imds.New(imds.Options{Endpoint: r.cloud.Endpoints().IMDS[host]})
	r.start()
	id := r.until("the problem", func(id identity.Identity) bool { return len(id.Problems) > 0 })
	if p := id.Problems[0]; p.Code != "imds-disabled" || !strings.Contains(p.Hint, "remove the variable") || id.Host.Name == "" {
		t.Errorf("problem %+v", p)
	}
	if n := len(r.cloud.Calls().Counts["imds"]); n != 0 {
		t.Errorf("%d paths were asked for", n)
	}
}

func TestECSAgentThatComesLate(t *testing.T) {
	r := newRig(t)
	late, err := r.cloud.AddInstance(simaws.InstanceSpec{})
	r.must(err)
	r.o.AgentURL = r.cloud.Endpoints().ECSAgent[late]
	r.o.Slow = time.Hour // it need not wait for that
	r.start()
	if id := r.until("the instance", known); id.ECS.Known {
		t.Errorf("an agent that is not there said %+v", id.ECS)
	}
	arn, err := r.cloud.AddContainerInstance(simaws.ContainerInstanceSpec{InstanceID: late})
	r.must(err)
	id := r.until("the ECS agent", func(id identity.Identity) bool { return id.ECS.Known })
	if id.ECS.ContainerInstanceARN != arn {
		t.Errorf("container instance %q, want %q", id.ECS.ContainerInstanceARN, arn)
	}
	// Its silence changes nothing.
	_, err = r.cloud.AddFault(simaws.Fault{Service: "ecs-agent", Drop: "before"})
	r.must(err)
	r.pass(r.looked, 20)
	r.quiet()
}

func TestWithoutMetadata(t *testing.T) {
	r := newRig(t)
	r.o.IMDS = nil
	r.start()
	id := r.until("the host and the ECS agent", func(id identity.Identity) bool { return id.ECS.Known })
	if id.Instance.Known || id.Host.LocalAddr != r.o.LocalAddr || len(id.Problems) > 0 {
		t.Errorf("without metadata: %+v", id)
	}
	if n := len(r.cloud.Calls().Counts["imds"]); n != 0 {
		t.Errorf("%d paths of the metadata were asked for", n)
	}
}

func TestStrangeECSAgents(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   identity.ECS
	}{
		"not registered yet": {200, `{"Cluster":"c","ContainerInstanceArn":null,"Version":"v1"}`, identity.ECS{Known: true, Cluster: "c", AgentVersion: "v1"}},
		"control characters": {200, `{"Cluster":"a\u001b[2Jb","Version":""}`, identity.ECS{Known: true, Cluster: "a [2Jb"}},
		"an error":           {500, `{"Cluster":"c"}`, identity.ECS{}},
		"no JSON":            {200, `<html>`, identity.ECS{}},
		"endless":            {200, `{"Cluster":"` + strings.Repeat("x", maxAnswer), identity.ECS{}},
		"long":               {200, `{"Cluster":"` + strings.Repeat("é", 500) + `"}`, identity.ECS{Known: true, Cluster: strings.Repeat("é", 100) + "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			}))
			defer s.Close()
			w := &watcher{o: Options{AgentURL: s.URL}}
			got, ok := w.ecs(t.Context())
			if d := cmp.Diff(row.want, got); d != "" || ok != row.want.Known {
				t.Errorf("known %v, answer (-want +got):\n%s", ok, d)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                              "plain",
		"a\x00b\nc\x7f":                      "a b c ",
		strings.Repeat("x", 201):             strings.Repeat("x", 200) + "…",
		strings.Repeat("x", 199) + "日本":      strings.Repeat("x", 199) + "…", // not half a letter
		"bad \xff\xfe bytes":                 "bad �� bytes",
		"right to left \u202e and c1 \u0085": "right to left   and c1  ",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMetadataThatIsSpare(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Spare = true
	r.o.IMDS = r.client(host, 250*time.Millisecond)
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{HopLimitBlocked: true}))
	r.start()
	id := r.until("the problem", func(id identity.Identity) bool { return len(id.Problems) > 0 })
	if p := id.Problems[0]; p.Code != "imds-unreachable" || p.Severity.String() != "warning" || id.Instance.Known {
		t.Errorf("identity %+v; want a warning and no instance", id)
	}
	r.must(r.cloud.SetMetadata(host, simaws.Metadata{}))
	r.until("the instance", known)
}
