package simaws

import (
	"fmt"
	"strings"
	"time"
)

// The ids of the default scenario.
const (
	DefaultInstance    = "i-0a1b2c3d4e5f60718"
	DefaultPredecessor = "i-0f9e8d7c6b5a40312"
	DefaultAllocation  = "eipalloc-0123456789abcdef0"
	DefaultPublicIP    = "203.0.113.10"
	DefaultEnvironment = "night"
	DefaultBucket      = "nagaya-certs"
	DefaultZone        = "Z0123456789ABCDEFGHIJ"
	DefaultZoneName    = "example.com"
)

// ScenarioOptions vary a scenario.
type ScenarioOptions struct {
	// LocalIPv4 is the private address of this host; default 10.0.0.10.
	LocalIPv4 string
}

var scenarios = map[string]func(*World, ScenarioOptions) (string, error){
	"default": defaultScenario,
}

// Scenarios lists the names that Populate knows.
func Scenarios() []string { return sortedKeys(scenarios) }

// Populate fills an empty world with a scenario and returns the id of the
// instance that stands for this host.
//
// "default" is a t3.micro in standard mode that has run for a day at 5 % CPU,
// the terminated instance before it, a free Elastic IP tagged Name=nagaya, the
// ECS cluster "default" with this host in it, and an enabled unmanaged compute
// environment "night", an empty bucket, and the empty hosted zone of example.com.
func (w *World) Populate(scenario string, o ScenarioOptions) (string, error) {
	fill := scenarios[scenario]
	if fill == nil {
		return "", fmt.Errorf("scenario %q is not one of %s", scenario, strings.Join(Scenarios(), ", "))
	}
	return fill(w, o)
}

func defaultScenario(w *World, o ScenarioOptions) (string, error) {
	setDefault(&o.LocalIPv4, "10.0.0.10")
	now := w.Now()
	for _, s := range []InstanceSpec{
		{
			ID: DefaultPredecessor, Type: "t3.micro", State: "terminated", CreditMode: Standard,
			LaunchTime: now.Add(-30 * 24 * time.Hour), Tags: map[string]string{"Name": "nagaya-old"},
		},
		{
			ID: DefaultInstance, Type: "t3.micro", CreditMode: Standard, CPUPercent: 5,
			LaunchTime: now.Add(-24 * time.Hour), PrivateIP: o.LocalIPv4,
			Tags: map[string]string{"Name": "nagaya", "Environment": "demo"},
		},
	} {
		if _, err := w.AddInstance(s); err != nil {
			return "", err
		}
	}
	if _, err := w.AddAddress(AddressSpec{AllocationID: DefaultAllocation, PublicIP: DefaultPublicIP, Tags: map[string]string{"Name": "nagaya"}}); err != nil {
		return "", err
	}
	if err := w.AddCluster("default"); err != nil {
		return "", err
	}
	if _, err := w.AddContainerInstance(ContainerInstanceSpec{Cluster: "default", InstanceID: DefaultInstance}); err != nil {
		return "", err
	}
	if _, err := w.AddComputeEnvironment(ComputeEnvironmentSpec{Name: DefaultEnvironment}); err != nil {
		return "", err
	}
	if err := w.AddBucket(BucketSpec{Name: DefaultBucket}); err != nil {
		return "", err
	}
	if err := w.AddZone(ZoneSpec{ID: DefaultZone, Name: DefaultZoneName}); err != nil {
		return "", err
	}
	return DefaultInstance, nil
}

// ShellEnv renders the environment of Env, and what the SDK does not know about, as
// lines for a POSIX shell to read: SIM_CONTROL, SIM_INSTANCE, and NAGAYA_ECS_AGENT_URL, by which nagaya finds
// the ECS agent. The Region is not in it.
func (c *Cloud) ShellEnv(instanceID string) string {
	env, e := c.Env(instanceID), c.Endpoints()
	env["SIM_CONTROL"] = e.Control
	env["NAGAYA_ECS_AGENT_URL"] = e.ECSAgent[instanceID]
	env["SIM_INSTANCE"] = instanceID
	var b strings.Builder
	for _, k := range sortedKeys(env) {
		fmt.Fprintf(&b, "export %s='%s'\n", k, strings.ReplaceAll(env[k], "'", `'\''`))
	}
	return b.String()
}
