package simaws_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// tell makes one call of the control endpoint and decodes the answer.
func tell(t *testing.T, c *simaws.Cloud, method, path, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.Endpoints().Control+path, strings.NewReader(body))
	must(t, err)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	var v map[string]any
	if strings.HasPrefix(string(b), "{") {
		must(t, json.Unmarshal(b, &v))
	}
	return answer.StatusCode, v
}

func TestControl(t *testing.T) {
	c := serve(t, newHand())
	// The rows are run in order on one cloud.
	for _, row := range []struct {
		call, body string
		status     int
		check      func(simaws.State) bool
	}{
		{"POST /instances", `{"id":"i-00000000000000001","type":"t3.small","tags":{"Name":"second"}}`, 200, func(s simaws.State) bool {
			i, ok := s.Instance("i-00000000000000001")
			return ok && i.Type == "t3.small"
		}},
		{"POST /instances", `{"type":"t9.huge"}`, 404, nil},
		{"POST /instances", `{"sort":"t3.small"}`, 400, nil},
		{"POST /addresses", `{"allocation_id":"eipalloc-00000000000000001"}`, 200, func(s simaws.State) bool { _, ok := s.Address("eipalloc-00000000000000001"); return ok }},
		{"PUT /addresses/" + eip + "/association", `{"instance_id":"i-00000000000000001"}`, 200, func(s simaws.State) bool { a, _ := s.Address(eip); return a.InstanceID == "i-00000000000000001" }},
		{"PUT /addresses/" + eip + "/association", `{"instance_id":"i-00000000000000009"}`, 404, nil},
		{"DELETE /addresses/" + eip + "/association", ``, 200, func(s simaws.State) bool { a, _ := s.Address(eip); return a.InstanceID == "" }},
		{"PUT /addresses/" + eip + "/tags", `{"Name":"other"}`, 200, func(s simaws.State) bool { a, _ := s.Address(eip); return a.Tags["Name"] == "other" }},
		{"DELETE /addresses/eipalloc-00000000000000001", ``, 200, func(s simaws.State) bool { return len(s.Addresses) == 1 }},
		{"PUT /instances/" + host + "/cpu", `{"percent":40}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.CPUPercent == 40 }},
		{"PUT /instances/" + host + "/cpu", `{"percent":140}`, 400, nil},
		{"PUT /instances/" + host + "/credits", `{"balance":50,"publish":true}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.Credits.Balance == 50 }},
		{"PUT /instances/" + host + "/credits", `{"balance":500}`, 400, nil},
		{"POST /instances/" + host + "/publish", ``, 200, nil},
		{"PUT /instances/" + host + "/credit-mode", `{"mode":"unlimited"}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.CreditMode == simaws.Unlimited }},
		{"PUT /instances/" + host + "/tags", `{"Name":"renamed"}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.Tags["Name"] == "renamed" }},
		{"PUT /instances/" + host + "/metadata", `{"tags":false}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return !i.Metadata.Tags }},
		{"PUT /instances/" + host + "/allow", `["ec2:Describe*"]`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return len(i.Allow) == 1 }},
		{"PUT /instances/" + host + "/allow", `null`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.Allow == nil }},
		{"PUT /instances/" + host + "/notices", `{"spot_action":"stop"}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return i.Notices.SpotAction == "stop" }},
		{"PUT /instances/" + host + "/tasks", `{"Tasks":[{"Arn":"x"}]}`, 200, func(s simaws.State) bool { i, _ := s.Instance(host); return strings.Contains(string(i.Tasks), "Arn") }},
		{"PUT /instances/i-none/cpu", `{"percent":1}`, 404, nil},
		{"PUT /conditions", `{"metric_lag":"90s"}`, 200, func(s simaws.State) bool { return s.Conditions.MetricLag == simaws.Duration(90e9) }},
		{"PUT /conditions", `{"metric_lag":"soon"}`, 400, nil},
		{"POST /clusters", `{"name":"second"}`, 200, func(s simaws.State) bool { return len(s.Clusters) == 3 }},
		{"POST /container-instances", `{"cluster":"second","instance_id":"i-00000000000000001"}`, 200, func(s simaws.State) bool { return len(s.ContainerInstances) == 2 }},
		{"POST /compute-environments", `{"name":"day"}`, 200, func(s simaws.State) bool { return len(s.ComputeEnvironments) == 2 }},
		{"POST /faults", `{"service":"ec2","code":"Unavailable","times":3,"delay":"10ms"}`, 200, func(s simaws.State) bool { return len(s.Faults) == 1 && s.Faults[0].Times == 3 }},
		{"DELETE /faults/1", ``, 200, func(s simaws.State) bool { return len(s.Faults) == 0 }},
		{"DELETE /faults/1", ``, 404, nil},
		{"DELETE /faults", ``, 200, nil},
		{"DELETE /calls", ``, 200, nil},
		{"DELETE /instances/" + host + "/tokens", ``, 200, nil},
		{"DELETE /instances/" + host + "/credentials", ``, 200, nil},
		{"PUT /instances/i-00000000000000001/state", `{"state":"terminated"}`, 200, func(s simaws.State) bool {
			i, _ := s.Instance("i-00000000000000001")
			return i.State == "terminated"
		}},
		{"PUT /instances/i-00000000000000001/state", `{"state":"running"}`, 400, nil},
		{"POST /buckets", `{"name":"new","page_size":2000}`, 400, nil},
		{"POST /buckets", `{"name":"new"}`, 200, nil},
		{"PUT /buckets/new/objects/a/b", `{"body":"x"}`, 200, nil},
		{"PUT /buckets/none/objects/a", `{"body":"x"}`, 404, nil},
		{"GET /buckets/new/objects", ``, 200, nil},
		{"DELETE /buckets/new/objects/a/b", ``, 200, nil},
		{"POST /zones", `{"id":"ZNEW","name":"new.test"}`, 200, nil},
		{"POST /zones", `{"id":"NEW","name":"new.test"}`, 400, nil},
		{"GET /nothing", ``, 404, nil},
	} {
		method, path, _ := strings.Cut(row.call, " ")
		status, answer := tell(t, c, method, path, row.body)
		if status != row.status {
			t.Errorf("%s %s: status %d (%v), want %d", row.call, row.body, status, answer, row.status)
		}
		if row.check != nil && !row.check(c.State()) {
			t.Errorf("%s %s: the state does not show it", row.call, row.body)
		}
	}
	if _, v := tell(t, c, http.MethodGet, "/state", ""); v["region"] != "ap-northeast-1" {
		t.Errorf("state %v", v)
	}
	_, v := tell(t, c, http.MethodGet, "/endpoints", "")
	if imds := v["imds"].(map[string]any); imds["i-00000000000000001"] == nil || v["ec2"] != c.Endpoints().EC2 {
		t.Errorf("endpoints %v", v)
	}
}

func TestCallsAreCounted(t *testing.T) {
	c := serve(t, newHand())
	cfg := sdkOn(t, c, host)
	for range 3 {
		must(t, askAll["ec2"](t, cfg))
	}
	_, v := tell(t, c, http.MethodGet, "/calls", "")
	if n := v["counts"].(map[string]any)["ec2"].(map[string]any)["DescribeAddresses"]; n != 3.0 {
		t.Errorf("%v calls, want 3", n)
	}
	c.ResetCalls()
	if n := c.Count("ec2", "DescribeAddresses"); n != 0 {
		t.Errorf("%d calls after a reset", n)
	}
}

func TestShellEnv(t *testing.T) {
	w := simaws.New(simaws.Options{})
	_, err := w.Populate("default", simaws.ScenarioOptions{LocalIPv4: "10.1.2.3"})
	must(t, err)
	if i, _ := w.State().Instance(host); i.PrivateIPs[0] != "10.1.2.3" {
		t.Errorf("private address %v", i.PrivateIPs)
	}
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	text := c.ShellEnv(host)
	for _, want := range []string{"export AWS_ENDPOINT_URL_EC2='" + c.Endpoints().EC2 + "'\n", "export SIM_CONTROL='http://127.0.0.1:"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "AWS_REGION") {
		t.Error("the Region is in the environment; it must come from IMDS")
	}
	c.Close()
	if _, err := c.AddInstance(simaws.InstanceSpec{}); err != nil {
		t.Errorf("the world outlives its endpoints: %v", err)
	}
	if _, err := w.Populate("nothing", simaws.ScenarioOptions{}); err == nil {
		t.Error("a scenario that there is not was taken")
	}
}

func TestFixedPorts(t *testing.T) {
	w := simaws.New(simaws.Options{})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	// Some row of ports is free.
	for base := 21000; base < 22000; base += 20 {
		c, err := simaws.Serve(w, simaws.ServeOptions{BasePort: base})
		if err != nil {
			continue
		}
		defer c.Close()
		e, at := c.Endpoints(), func(n int) string { return fmt.Sprintf("http://127.0.0.1:%d", base+n) }
		if e.EC2 != at(0) || e.S3 != at(4) || e.Control != at(6) || e.IMDS[host] != at(7) || e.ECSAgent[host] != at(8) {
			t.Errorf("base %d: %+v", base, e)
		}
		return
	}
	t.Fatal("no row of ports is free between 21000 and 22000")
}
