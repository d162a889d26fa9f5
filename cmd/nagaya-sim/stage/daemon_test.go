package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// taskDefinition is what matters here of one.
type taskDefinition struct {
	Family               string
	NetworkMode          string
	ContainerDefinitions []struct {
		Name        string
		Environment []struct{ Name, Value string }
		MountPoints []struct {
			SourceVolume, ContainerPath string
			ReadOnly                    bool
		}
		StopTimeout            int
		ReadonlyRootFilesystem bool
		LinuxParameters        struct {
			Tmpfs []struct{ ContainerPath string }
		}
	}
	Volumes []struct {
		Name string
		Host struct{ SourcePath string }
	}
}

// documentedTask is the task definition that docs/from-nginx-proxy.md shows.
func documentedTask(t *testing.T) taskDefinition {
	t.Helper()
	text, err := os.ReadFile("../../../docs/from-nginx-proxy.md")
	must(t, err)
	_, rest, found := strings.Cut(string(text), "```json\n")
	example, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("the documentation shows no task definition")
	}
	var d taskDefinition
	must(t, json.Unmarshal([]byte(example), &d))
	return d
}

// daemon runs the task's container as the ECS agent does, on the stage's ports, and
// with the simulated cloud instead of AWS.
func (p *proxy) daemon(d taskDefinition, revision string) {
	p.t.Helper()
	one := d.ContainerDefinitions[0]
	env := map[string]string{
		"HTTP_PORT": fmt.Sprint(p.s.HTTPPort), "HTTPS_PORT": fmt.Sprint(p.s.HTTPSPort),
		"AWS_EXECUTION_ENV": "AWS_ECS_EC2", "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/0f1e2d3c4b5a-1",
	}
	for _, kv := range one.Environment {
		env[kv.Name] = kv.Value
	}
	if env["NAGAYA_ADDRESS_CLAIM"] == "" {
		p.t.Error("the documented task claims no address")
	}
	env["NAGAYA_ADDRESS_CLAIM"] = "tag:Name=nagaya"
	for _, kv := range p.s.Env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	c := container.Config{Image: proxyImage, Labels: map[string]string{
		stageLabel: p.s.id, "com.amazonaws.ecs.cluster": "default", "com.amazonaws.ecs.container-name": one.Name,
		"com.amazonaws.ecs.task-arn":               "arn:aws:ecs:ap-northeast-1:123456789012:task/default/proxy" + revision,
		"com.amazonaws.ecs.task-definition-family": d.Family, "com.amazonaws.ecs.task-definition-version": revision,
	}}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		c.Env = append(c.Env, name+"="+env[name])
	}
	h := container.HostConfig{NetworkMode: container.NetworkMode(d.NetworkMode), ReadonlyRootfs: one.ReadonlyRootFilesystem, Tmpfs: map[string]string{}}
	for _, in := range one.LinuxParameters.Tmpfs {
		h.Tmpfs[in.ContainerPath] = ""
	}
	for _, m := range one.MountPoints {
		for _, v := range d.Volumes {
			if v.Name != m.SourceVolume {
				continue
			}
			bind := p.here(v.Host.SourcePath) + ":" + m.ContainerPath
			if m.ReadOnly {
				bind += ":ro"
			}
			h.Binds = append(h.Binds, bind)
		}
	}
	p.start(c, h)
}

// The image as the documented daemon task does the whole job on an ECS instance, and
// the next revision of the task goes on with it.
func TestImageAsAnECSDaemon(t *testing.T) {
	p := newProxy(t, Options{Hosts: []string{"a.test"}})
	must(t, p.s.StartCloud(t.Context()))
	d := documentedTask(t)
	defer func() {
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", containerLog(p.s, p.id))
		}
	}()
	p.daemon(d, "1")
	run(t, p.s, service("alpha", "1", "a.test"))
	answers(t, p.s, "a.test", "alpha 1")
	whole := func() {
		t.Helper()
		until(t, "the whole job is done", func() error {
			st, err := p.status()
			switch {
			case err != nil:
				return err
			case !st.Address.Held():
				return errors.New("the address is not held")
			case st.Identity.ECS.Cluster != "default" || st.Identity.Instance.ID != p.s.InstanceID:
				return fmt.Errorf("the identity is %+v", st.Identity)
			}
			for _, one := range st.Problems {
				// Others may run containers on this engine, and an agent on this host.
				others := strings.HasPrefix(one.Subject, "container ") || one.Code == "metrics-unavailable"
				ours := strings.Contains(one.Subject, p.s.id) || strings.Contains(one.Subject, d.Family+":")
				if ours || one.Severity == problem.Error && !others {
					return fmt.Errorf("%s: %s (%s)", one.Subject, one.Text, one.Code)
				}
			}
			return nil
		})
	}
	whole()

	// The service is updated: ECS stops the old task, then starts the new one.
	must(t, p.s.Stop(t.Context(), p.id, d.ContainerDefinitions[0].StopTimeout))
	_, errs := p.logs()
	if !strings.Contains(errs, "agent ends") {
		t.Errorf("the old task did not end by itself:\n%s", errs)
	}
	must(t, p.s.Remove(t.Context(), p.id))
	p.daemon(d, "2")
	answers(t, p.s, "a.test", "alpha 1")
	whole()
	if n := calls(t, p.s, "ec2", "AssociateAddress"); n != 1 {
		t.Errorf("the address was associated %d times, want once", n)
	}
	p.ends()
}
