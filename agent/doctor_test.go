package agent

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/doctor/examine"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// patient is a host in a simulated cloud that is examined.
type patient struct {
	t     *testing.T
	cloud *simaws.Cloud
	o     Options
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	cloud, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	for k, v := range cloud.Env(simaws.DefaultInstance) {
		if strings.HasPrefix(k, "AWS_") {
			t.Setenv(k, v)
		}
	}
	dir := t.TempDir()
	p := &patient{t: t, cloud: cloud, o: Options{Config: load.Sources{File: dir + "/nagaya.yaml"}}}
	p.set("state-dir", dir+"/state")
	p.set("run-dir", dir+"/run")
	p.set("log-dir", dir+"/log")
	p.set("docker.host", "unix://"+dir+"/no.sock")
	p.set("nginx.binary", dir+"/no-nginx")
	p.set("certs.dir", dir+"/certs")
	p.set("ecs.agent-url", cloud.Endpoints().ECSAgent[simaws.DefaultInstance])
	for _, which := range []string{"nginx.http-port", "nginx.https-port"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		l.Close()
		p.set(which, port)
	}
	p.set("address.claim", "tag:Name=nagaya")
	return p
}

func (p *patient) set(path, value string) {
	s, ok := config.Find(path)
	if !ok {
		p.t.Fatal(path)
	}
	p.o.Config.Flags = append(p.o.Config.Flags, config.FromFlag(s, value))
}

// examine returns what is wrong, as "level check".
func (p *patient) examine() (doctor.Report, []string) {
	p.t.Helper()
	r, err := Examine(p.t.Context(), p.o, examine.Orders{})
	if err != nil {
		p.t.Fatal(err)
	}
	var wrong []string
	for _, f := range r.Findings {
		if f.Text == "" || f.Check == "" || (f.Level == doctor.OK) != (f.Remedy == "") {
			p.t.Errorf("finding %+v", f)
		}
		// None of them is there in this test, or they are as the host has them, and what that
		// looks like is shown once.
		if f.Level != doctor.OK && !slices.Contains([]string{"docker", "nginx", "agent", "nginx-service", "cgroup", "journal"}, f.Check) {
			wrong = append(wrong, string(f.Level)+" "+f.Check)
		}
	}
	return r, wrong
}

func (p *patient) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	p := newPatient(t)
	r, wrong := p.examine()
	if len(wrong) != 0 {
		t.Errorf("wrong: %q in\n%s", wrong, r.Text())
	}
	var checks []string
	for _, f := range r.Findings {
		if !slices.Contains(checks, f.Check) {
			checks = append(checks, f.Check)
		}
	}
	want := []string{
		"agent", "metadata", "credentials", "ec2-api", "tags", "permission", "address",
		"docker", "ecs-agent", "nginx", "ports", "certificates", "clock", "directories", "cgroup", "credit-mode", "journal",
	}
	made := slices.DeleteFunc(slices.Clone(checks), func(c string) bool { return !slices.Contains(want, c) })
	if !slices.Equal(made, want) {
		t.Errorf("checks %q were made; want %q in this order", checks, want)
	}
	if r.Count(doctor.Fail) != 2 { // neither Docker nor nginx
		t.Errorf("%d failed in\n%s", r.Count(doctor.Fail), r.Text())
	}
	for _, action := range []string{"AssociateAddress", "DisassociateAddress", "CreateTags", "DescribeInstances"} {
		if n := p.cloud.Count("ec2", action); n > 3 {
			t.Errorf("%d calls of %s", n, action)
		}
	}
	if a := p.cloud.State().Addresses[0]; a.AssociationID != "" {
		t.Errorf("the examination moved the address: %+v", a)
	}
}

// A setting may come from a tag; one that is wrong is named.
func TestDoctorReadsTheTags(t *testing.T) {
	p := newPatient(t)
	p.o.Config.Flags = slices.DeleteFunc(p.o.Config.Flags, func(v config.Value) bool { return v.Setting.Path == "address.claim" })
	p.must(p.cloud.SetTags(simaws.DefaultInstance, map[string]string{"nagaya:address-claim": "tag:Name=nagaya", "nagaya:address-policy": "greedy"}))
	r, wrong := p.examine()
	if !slices.Equal(wrong, []string{"fail tags"}) || !strings.Contains(r.Text(), "greedy") {
		t.Errorf("wrong: %q in\n%s", wrong, r.Text())
	}
	if strings.Contains(r.Text(), "none is claimed") || !strings.Contains(r.Text(), simaws.DefaultPublicIP) {
		t.Errorf("the claim of the tag is not seen:\n%s", r.Text())
	}
}

// Every action that the policy grants and that can be tried is missed by name, with
// the statement that grants it.
func TestDoctorNamesTheMissingPermission(t *testing.T) {
	p := newPatient(t)
	if _, err := p.cloud.Associate(p.cloud.State().Addresses[0].AllocationID, simaws.DefaultInstance, ""); err != nil {
		t.Fatal(err)
	}
	all := calls(t)
	for _, missing := range all {
		service, _, _ := strings.Cut(missing, ":")
		if slices.Contains([]string{"ecs", "batch", "s3", "kms", "route53"}, service) {
			continue // the first know no dry run; the others are tried where certificates are ordered (cmd/nagaya)
		}
		p.must(p.cloud.SetAllow(simaws.DefaultInstance, slices.DeleteFunc(slices.Clone(all), func(a string) bool { return a == missing })))
		r, wrong := p.examine()
		named := false
		for _, f := range r.Findings {
			named = named || f.Level != doctor.OK && strings.Contains(f.Text, "may not call "+missing) && strings.Contains(f.Remedy, `"Action":"`+missing+`"`)
		}
		if len(wrong) == 0 || !named {
			t.Errorf("without %s: wrong %q in\n%s", missing, wrong, r.Text())
		}
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	for name, row := range map[string]struct {
		spoil  func(p *patient)
		want   string
		remedy string
	}{
		"no way to EC2": {func(p *patient) {
			p.t.Setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
			id, err := p.cloud.AddInstance(simaws.InstanceSpec{NoAutoPublicIP: true})
			p.must(err)
			p.t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", p.cloud.Endpoints().IMDS[id])
		}, "fail ec2-api", "NAT gateway"},
		"hop limit": {func(p *patient) {
			p.must(p.cloud.SetMetadata(simaws.DefaultInstance, simaws.Metadata{HopLimitBlocked: true}))
		}, "fail metadata", "hop limit"},
		"no role": {func(p *patient) {
			id, err := p.cloud.AddInstance(simaws.InstanceSpec{Role: "-"})
			p.must(err)
			p.t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", p.cloud.Endpoints().IMDS[id])
		}, "fail credentials", "instance profile"},
		"no such address":   {func(p *patient) { p.set("address.claim", "203.0.113.99") }, "fail address", "address.claim"},
		"no such interface": {func(p *patient) { p.set("address.claim", "tag:Name=nagaya@eni-0123456789abcdef0") }, "fail address", "private IPv4 address"},
		"port in use": {func(p *patient) {
			l, err := net.Listen("tcp", ":0")
			p.must(err)
			p.t.Cleanup(func() { l.Close() })
			_, port, _ := net.SplitHostPort(l.Addr().String())
			p.set("nginx.http-port", port)
		}, "fail ports", "nginx.http-port"},
		"a file as directory": {func(p *patient) { p.set("log-dir", "/etc/passwd") }, "fail directories", "log-dir"},
		"leaving": {func(p *patient) {
			p.must(p.cloud.SetNotices(simaws.DefaultInstance, simaws.Notices{TargetLifecycleState: "Terminated"}))
		}, "warn leaving", "standby"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.t = t
			row.spoil(p)
			r, wrong := p.examine()
			i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool {
				return string(f.Level)+" "+f.Check == row.want && strings.Contains(f.Remedy, row.remedy)
			})
			if i < 0 {
				t.Errorf("wrong: %q, want %q with %q in\n%s", wrong, row.want, row.remedy, r.Text())
			}
		})
	}
}
