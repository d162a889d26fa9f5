package simaws_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// plain makes one request of IMDS and returns the status and the body; status 0
// is a cut connection.
func plain(t *testing.T, method, url string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	must(t, err)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(b)
}

const (
	tokenName = "X-aws-ec2-metadata-token"
	ttlName   = "X-aws-ec2-metadata-token-ttl-seconds"
)

func token(t *testing.T, base string) string {
	t.Helper()
	status, body := plain(t, http.MethodPut, base+"/latest/api/token", map[string]string{ttlName: "60"})
	if status != http.StatusOK {
		t.Fatalf("status %d for a token", status)
	}
	return body
}

func TestTokenRules(t *testing.T) {
	wall := newHand()
	w := simaws.New(simaws.Options{Wall: wall.now})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	theirs := addInstance(t, c, simaws.InstanceSpec{})
	base := c.Endpoints().IMDS[host]

	for _, row := range []struct {
		name, path string
		header     map[string]string
		want       int
	}{
		{"no TTL", "/latest/api/token", nil, 400},
		{"a TTL of nothing", "/latest/api/token", map[string]string{ttlName: "0"}, 400},
		{"the longest TTL", "/latest/api/token", map[string]string{ttlName: "21600"}, 200},
		{"a longer TTL", "/latest/api/token", map[string]string{ttlName: "21601"}, 400},
		{"a word as TTL", "/latest/api/token", map[string]string{ttlName: "long"}, 400},
		{"a dated version", "/2021-03-23/api/token", map[string]string{ttlName: "60"}, 403},
		{"through a proxy", "/latest/api/token", map[string]string{ttlName: "60", "X-Forwarded-For": "10.0.0.1"}, 403},
		{"another path", "/latest/meta-data/mac", map[string]string{ttlName: "60"}, 405},
	} {
		if got, _ := plain(t, http.MethodPut, base+row.path, row.header); got != row.want {
			t.Errorf("PUT with %s: status %d, want %d", row.name, got, row.want)
		}
	}

	good, foreign := token(t, base), token(t, c.Endpoints().IMDS[theirs])
	const path = "/latest/meta-data/instance-id"
	read := func(token string) int {
		status, _ := plain(t, http.MethodGet, base+path, map[string]string{tokenName: token})
		return status
	}
	for _, row := range []struct {
		name, token string
		want        int
	}{{"none", "", 401}, {"a made-up one", "AQAEA==", 401}, {"that of another instance", foreign, 401}, {"a good one", good, 200}} {
		if got := read(row.token); got != row.want {
			t.Errorf("GET with the token: %s: status %d, want %d", row.name, got, row.want)
		}
	}
	if status, _ := plain(t, http.MethodPost, base+path, map[string]string{tokenName: good}); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", status)
	}
	wall.move(59 * time.Second)
	if got := read(good); got != 200 {
		t.Errorf("a second before its end: status %d", got)
	}
	wall.move(time.Second)
	if got := read(good); got != 401 {
		t.Errorf("an expired token: status %d", got)
	}
	good = token(t, base)
	must(t, c.RevokeTokens(host))
	if got := read(good); got != 401 {
		t.Errorf("a revoked token: status %d", got)
	}
}

func TestHopLimit(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.SetMetadata(host, simaws.Metadata{Tags: true, HopLimitBlocked: true}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Endpoints().IMDS[host]+"/latest/api/token", nil)
	must(t, err)
	r.Header.Set(ttlName, "60")
	if answer, err := http.DefaultClient.Do(r); err == nil {
		answer.Body.Close()
		t.Errorf("status %d, want no answer", answer.StatusCode)
	}
	if ctx.Err() == nil {
		t.Error("the connection was cut, want it to hang")
	}
}

// metadata reads a path of the host's IMDS with the SDK; absent says that it was 404.
func metadata(t *testing.T, c *simaws.Cloud, instance, path string) (value string, absent bool) {
	t.Helper()
	base := c.Endpoints().IMDS[instance]
	status, body := plain(t, http.MethodGet, base+"/latest/"+path, map[string]string{tokenName: token(t, base)})
	switch status {
	case http.StatusOK:
		return body, false
	case http.StatusNotFound:
		return "", true
	}
	t.Fatalf("%s: status %d", path, status)
	return "", false
}

func TestMetadataPaths(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	state, _ := c.State().Instance(host)
	nic := "meta-data/network/interfaces/macs/" + state.MAC + "/"
	auto := state.PublicIPs[0]
	const absent = "(absent)"
	for path, want := range map[string]string{
		"":                                             "dynamic/\nmeta-data/",
		"meta-data/instance-id":                        host,
		"meta-data/instance-type":                      "t3.micro",
		"meta-data/instance-life-cycle":                "on-demand",
		"meta-data/local-ipv4":                         "10.0.0.10",
		"meta-data/mac":                                state.MAC,
		"meta-data/public-ipv4":                        auto,
		"meta-data/placement/":                         "availability-zone\navailability-zone-id\nregion",
		"meta-data/placement":                          "availability-zone\navailability-zone-id\nregion",
		"meta-data/placement/region":                   "ap-northeast-1",
		"meta-data/placement/availability-zone":        "ap-northeast-1a",
		"meta-data/tags/instance":                      "Environment\nName",
		"meta-data/tags/instance/Name":                 "nagaya",
		"meta-data/network/interfaces/macs/":           state.MAC + "/",
		nic + "device-number":                          "0",
		nic + "interface-id":                           state.InterfaceIDs[0],
		nic + "local-ipv4s":                            "10.0.0.10",
		nic + "public-ipv4s":                           auto,
		nic + "ipv4-associations/":                     auto,
		nic + "ipv4-associations/" + auto:              "10.0.0.10",
		"meta-data/events/maintenance/scheduled":       "[]",
		"meta-data/events/recommendations/rebalance":   absent,
		"meta-data/spot/instance-action":               absent,
		"meta-data/autoscaling/target-lifecycle-state": absent,
		"meta-data/tags/instance/Nobody":               absent,
		"meta-data/instance-id/":                       absent,
		"meta-data/nonsense":                           absent,
		"user-data":                                    absent,
		"meta-data/iam/security-credentials/":          "nagaya",
	} {
		got, missing := metadata(t, c, host, path)
		if missing {
			got = absent
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	must(t, c.SetMetadata(host, simaws.Metadata{}))
	if got, missing := metadata(t, c, host, "meta-data/tags/instance"); !missing {
		t.Errorf("tags that are switched off: %q", got)
	}
}

func TestIdentityDocument(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := imds.NewFromConfig(sdkOn(t, c, host))
	out, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	must(t, err)
	got := []any{out.InstanceID, out.Region, out.AvailabilityZone, out.AccountID, out.InstanceType, out.PrivateIP, out.Architecture, out.PendingTime}
	want := []any{host, "ap-northeast-1", "ap-northeast-1a", "123456789012", "t3.micro", "10.0.0.10", "x86_64", clock.now().Add(-24 * time.Hour)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	info, err := client.GetIAMInfo(t.Context(), nil)
	must(t, err)
	if !strings.HasSuffix(info.InstanceProfileArn, "/nagaya") {
		t.Errorf("profile %q", info.InstanceProfileArn)
	}
	_, err = client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "spot/instance-action"})
	var status interface{ HTTPStatusCode() int }
	if !asStatus(err, &status) || status.HTTPStatusCode() != http.StatusNotFound {
		t.Errorf("error %v, want a 404", err)
	}
}

func TestNotices(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	must(t, c.SetNotices(host, simaws.Notices{
		SpotAction:           "terminate",
		Rebalance:            clock.now(),
		TargetLifecycleState: "Terminated",
		Maintenance: []simaws.Maintenance{{
			Code: "system-reboot", Description: "scheduled reboot", EventID: "instance-event-0d59937288b749b32",
			NotBefore: time.Date(2026, 12, 1, 9, 0, 43, 0, time.UTC), NotAfter: time.Date(2026, 12, 1, 9, 17, 23, 0, time.UTC),
		}},
	}))
	for path, want := range map[string]string{
		"spot/instance-action":               `{"action":"terminate","time":"2026-11-22T12:02:00Z"}`,
		"spot/termination-time":              "2026-11-22T12:02:00Z",
		"events/recommendations/rebalance":   `{"noticeTime":"2026-11-22T12:00:00Z"}`,
		"autoscaling/target-lifecycle-state": "Terminated",
		"events/maintenance/scheduled": `[{"NotBefore":"1 Dec 2026 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot",` +
			`"EventId":"instance-event-0d59937288b749b32","NotAfter":"1 Dec 2026 09:17:23 GMT","State":"active"}]`,
	} {
		if got, _ := metadata(t, c, host, "meta-data/"+path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	must(t, c.SetNotices(host, simaws.Notices{}))
	if got, missing := metadata(t, c, host, "meta-data/spot/instance-action"); !missing {
		t.Errorf("a notice that was taken back: %s", got)
	}
}

// seen is what the metadata of an instance shows of its public address.
func seen(t *testing.T, c *simaws.Cloud, instance string) string {
	t.Helper()
	state, _ := c.State().Instance(instance)
	nic := "meta-data/network/interfaces/macs/" + state.MAC + "/"
	public, _ := metadata(t, c, instance, "meta-data/public-ipv4")
	list, _ := metadata(t, c, instance, nic+"public-ipv4s")
	associations, _ := metadata(t, c, instance, nic+"ipv4-associations/")
	if list != public || associations != public {
		t.Errorf("public-ipv4 %q, public-ipv4s %q, ipv4-associations %q", public, list, associations)
	}
	return public
}

func TestAddressShowsInMetadata(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	theirs := addInstance(t, c, simaws.InstanceSpec{})
	wide := addInstance(t, c, simaws.InstanceSpec{ExtraInterfaces: 1})
	auto := seen(t, c, host)
	if auto == "" {
		t.Fatal("the host has no auto-assigned address")
	}
	associate(t, c, host)
	if got := seen(t, c, host); got != simaws.DefaultPublicIP {
		t.Errorf("after it came: %q", got)
	}
	c.SetConditions(simaws.Conditions{AutoPublicDelay: simaws.Duration(time.Minute)})
	associate(t, c, theirs)
	if got := seen(t, c, theirs); got != simaws.DefaultPublicIP {
		t.Errorf("the next holder sees %q", got)
	}
	if got := seen(t, c, host); got != "" {
		t.Errorf("right after it went: %q", got)
	}
	clock.move(time.Minute)
	if got := seen(t, c, host); got == "" || got == auto || got == simaws.DefaultPublicIP {
		t.Errorf("a minute after it went: %q, want a new address (the first was %q)", got, auto)
	}
	if got := seen(t, c, wide); got != "" {
		t.Errorf("an instance with two interfaces was given %q", got)
	}
	associate(t, c, wide)
	must(t, c.Disassociate(eip))
	if got := seen(t, c, wide); got != "" {
		t.Errorf("an instance with two interfaces was given %q when its Elastic IP went", got)
	}
}

func TestStaleMetadata(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	c.SetConditions(simaws.Conditions{MetadataLag: simaws.Duration(5 * time.Second)})
	clock.move(time.Minute)
	auto := seen(t, c, host)
	associate(t, c, host)
	if got := seen(t, c, host); got != auto {
		t.Errorf("at once: %q, want %q still", got, auto)
	}
	clock.move(5 * time.Second)
	if got := seen(t, c, host); got != simaws.DefaultPublicIP {
		t.Errorf("five seconds later: %q", got)
	}
}

func TestTagsOfXenAreThoseOfItsStart(t *testing.T) {
	c := serve(t, newHand())
	xen := addInstance(t, c, simaws.InstanceSpec{Type: "t2.micro", Tags: map[string]string{"Name": "old"}})
	must(t, c.SetTags(xen, map[string]string{"Name": "new"}))
	must(t, c.SetTags(host, map[string]string{"Name": "new", "not this": "x", "nor/this": "y"}))
	for id, want := range map[string]string{xen: "old", host: "new"} {
		if got, _ := metadata(t, c, id, "meta-data/tags/instance/Name"); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if got, _ := metadata(t, c, host, "meta-data/tags/instance"); got != "Name" {
		t.Errorf("keys %q", got)
	}
	must(t, c.SetState(xen, "stopped"))
	must(t, c.SetState(xen, "running"))
	if got, _ := metadata(t, c, xen, "meta-data/tags/instance/Name"); got != "new" {
		t.Errorf("after a start: %q", got)
	}
}

func TestStoppedInstanceDoesNotAnswer(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.SetState(host, "stopped"))
	if status, _ := plain(t, http.MethodPut, c.Endpoints().IMDS[host]+"/latest/api/token", map[string]string{ttlName: "60"}); status != 0 {
		t.Errorf("status %d, want a cut connection", status)
	}
	if status, _ := plain(t, http.MethodGet, c.Endpoints().ECSAgent[host]+"/v1/metadata", nil); status != 0 {
		t.Errorf("ECS agent: status %d, want a cut connection", status)
	}
}

func TestFaultyMetadata(t *testing.T) {
	c := serve(t, newHand())
	_, err := c.AddFault(simaws.Fault{Service: "imds", Action: "GET /meta-data/public-ipv4", Status: 503, Times: 1})
	must(t, err)
	base := c.Endpoints().IMDS[host]
	good := map[string]string{tokenName: token(t, base)}
	for n, want := range []int{503, 200} {
		if got, _ := plain(t, http.MethodGet, base+"/latest/meta-data/public-ipv4", good); got != want {
			t.Errorf("request %d: status %d, want %d", n+1, got, want)
		}
	}
	if n := c.Count("imds", "GET /meta-data/public-ipv4"); n != 2 {
		t.Errorf("%d requests were counted", n)
	}
}

func TestECSAgent(t *testing.T) {
	c := serve(t, newHand())
	loner := addInstance(t, c, simaws.InstanceSpec{})
	base := c.Endpoints().ECSAgent[host]
	_, body := plain(t, http.MethodGet, base+"/v1/metadata", nil)
	var m struct{ Cluster, ContainerInstanceArn, Version string }
	must(t, json.Unmarshal([]byte(body), &m))
	if want := c.State().ContainerInstances[0].ARN; m.Cluster != "default" || m.ContainerInstanceArn != want || !strings.HasPrefix(m.Version, "Amazon ECS Agent - v1.") {
		t.Errorf("%+v, want the ARN %s", m, want)
	}
	if _, got := plain(t, http.MethodGet, base+"/v1/tasks", nil); got != `{"Tasks":[]}` {
		t.Errorf("no tasks: %s", got)
	}
	const one = `{"Arn":"arn:aws:ecs:ap-northeast-1:123456789012:task/default/1111","DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Family":"web","Version":"3","Containers":[{"DockerId":"9581a69a761a557fbfce1d0f6745e4af","DockerName":"ecs-web-3-nginx-abc","Name":"nginx","Ports":[{"ContainerPort":80,"Protocol":"tcp","HostPort":32768}]}]}`
	must(t, c.SetTasks(host, []byte(`{"Tasks":[`+one+`]}`)))
	for _, row := range []struct {
		query  string
		status int
		want   string
	}{
		{"", 200, `{"Tasks":[` + one + `]}`},
		{"?taskarn=arn:aws:ecs:ap-northeast-1:123456789012:task/default/1111", 200, one},
		{"?dockerid=9581a69a", 200, one},
		{"?dockerid=9581a69a761a557fbf", 404, ""},
		{"?taskarn=arn:nobody", 404, ""},
		{"?taskarn=a&dockerid=b", 400, ""},
	} {
		status, got := plain(t, http.MethodGet, base+"/v1/tasks"+row.query, nil)
		if status != row.status || row.want != "" && got != row.want {
			t.Errorf("%q: status %d, %s", row.query, status, got)
		}
	}
	if status, _ := plain(t, http.MethodGet, c.Endpoints().ECSAgent[loner]+"/v1/metadata", nil); status != 0 {
		t.Errorf("an instance without a cluster: status %d", status)
	}
	for _, bad := range []string{`{"Tasks":null}`, `{}`, `[`, `{"Tasks":[1]}`} {
		if c.SetTasks(host, []byte(bad)) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// At one address for all, who asks is told by where the question comes from.
func TestMetadataOfWhoeverAsks(t *testing.T) {
	w := simaws.New(simaws.Options{})
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	addInstance(t, c, simaws.InstanceSpec{PrivateIP: "10.0.0.20"})
	s := httptest.NewServer(c.Metadata())
	t.Cleanup(s.Close)
	if status, _ := plain(t, http.MethodPut, s.URL+"/latest/api/token", map[string]string{ttlName: "60"}); status != 0 {
		t.Errorf("status %d for an address that is no instance's", status)
	}
	mine := addInstance(t, c, simaws.InstanceSpec{PrivateIP: "127.0.0.1"})
	if _, id := plain(t, http.MethodGet, s.URL+"/latest/meta-data/instance-id", map[string]string{tokenName: token(t, s.URL)}); id != mine {
		t.Errorf("instance %q, want %q", id, mine)
	}
}
