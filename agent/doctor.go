package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/files"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/doctor/examine"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/install"
)

// Examine proves, without changing anything, that what this configuration wants can
// be done on this host: what it needs of the host, of Docker and of nginx, and every
// permission in AWS. The error wraps ErrConfig for a configuration that is wrong.
func Examine(ctx context.Context, o Options) (doctor.Report, error) {
	o.Log = slog.New(slog.DiscardHandler)
	a := &agent{o: o, board: newBoard(o.Version, time.Now())}
	resolved, err := a.resolve()
	if err != nil {
		return doctor.Report{}, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if a.cloud, err = newCloud(ctx); err != nil {
		return doctor.Report{}, fmt.Errorf("reading the settings of the AWS SDK: %w", err)
	}
	x := &examination{agent: a, config: resolved.Config}
	x.all(ctx)
	return x.report, nil
}

// examination is one call of Examine. A later check is one more line in all or aws.
type examination struct {
	*agent
	config config.Config
	report doctor.Report
}

// all makes every check: who this is and what it may do, what it needs of others on
// this machine, then the machine itself.
func (x *examination) all(ctx context.Context) {
	x.running(ctx)
	id := x.identity(ctx)
	c := x.tagged(id)
	clock := &examine.Clock{Next: x.cloud.http.Transport}
	x.cloud.http.Transport = clock
	credits := x.aws(ctx, id)

	x.report.Add(examine.Docker(ctx, c.Docker.Host))
	x.ecs(id)
	x.nginx(ctx)
	x.report.Add(examine.OtherNginx(ctx, "/etc/systemd/system/multi-user.target.wants")...)
	for _, port := range []int{c.Nginx.HTTPPort, c.Nginx.HTTPSPort} {
		x.report.Add(examine.Port(port, examine.Runs(filepath.Join(c.RunDir, "nginx", "nginx.pid"))))
	}
	x.certificates(ctx)

	x.report.Add(clock.Finding()...)
	for _, d := range [][2]string{{"state-dir", c.StateDir}, {"run-dir", c.RunDir}, {"log-dir", c.LogDir}} {
		x.report.Add(examine.Directory(d[0], d[1]))
	}
	x.report.Add(examine.Cgroup(c.Credit.CgroupDir))
	x.report.Add(credits...)
	x.report.Add(examine.Journal("", event.ID(event.AgentStarted))...)
}

// running asks the agent of this host what is wrong.
func (x *examination) running(ctx context.Context) {
	const check = "agent"
	ctx, cancel := context.WithTimeout(ctx, previewPatience)
	defer cancel()
	s, err := socket.Dial(socketPath(x.config)).Status(ctx)
	severe, all := s.Severe()
	switch {
	case errors.Is(err, socket.ErrNoAgent):
		x.report.Add(doctor.Doubtful(check, "no agent runs here", "systemctl enable --now --no-block nagaya"))
	case err != nil:
		x.report.Add(doctor.Bad(check, "the agent does not say how it is: "+problem.Printable(err.Error(), 300), "journalctl -u nagaya -e"))
	case severe > 0:
		x.report.Add(doctor.Bad(check, fmt.Sprintf("the agent runs, with %d problems of which %d are severe", all, severe), "see 'nagaya status'"))
	case all > 0:
		x.report.Add(doctor.Doubtful(check, fmt.Sprintf("the agent runs, with %d problems", all), "see 'nagaya status'"))
	default:
		x.report.Add(doctor.Good(check, "the agent runs, and has no problems"))
	}
}

func (x *examination) nginx(ctx context.Context) {
	const check = "nginx"
	build, err := install.Detect(ctx, installOptions(x.config, nginx.Build{}))
	if err != nil {
		x.report.Add(doctor.Of(check, install.Explain(err)))
		return
	}
	if build.Stream == "" {
		x.report.Add(doctor.Doubtful(check, fmt.Sprintf("nginx %s has no stream module: routes with ports of their own and passed TLS do not work", build.Version),
			"install it, e.g. apt install libnginx-mod-stream or dnf install nginx-mod-stream"))
		return
	}
	x.report.Add(doctor.Good(check, "nginx %s has the modules that are needed", build.Version))
}

func (x *examination) certificates(ctx context.Context) {
	const check = "certificates"
	ctx, done := context.WithTimeout(ctx, previewPatience)
	defer done()
	var v certs.Inventory
	err := files.Watch(ctx, files.Options{Dir: x.config.Certs.Dir}, func(i certs.Inventory) { v = i; done() })
	if err != nil {
		x.report.Add(doctor.Bad(check, problem.Printable(err.Error(), 300), "correct certs.dir"))
	}
	for _, p := range v.Problems {
		x.report.Add(doctor.Of(check, p))
	}
	if len(v.Problems) == 0 && err == nil {
		x.report.Add(doctor.Good(check, "%d certificates in %s can be used", len(v.Pairs), x.config.Certs.Dir))
	}
}

// aws looks at what this machine may do. It returns what it found about the credits.
func (x *examination) aws(ctx context.Context, id identity.Identity) []doctor.Finding {
	if !id.Instance.Known {
		if len(x.config.Address.Claim) > 0 {
			x.report.Add(doctor.Bad("address", "whether the claimed addresses can come here cannot be told without instance metadata", "see the check metadata"))
		}
		return nil
	}
	if !x.credentials(ctx) || !x.reachable(ctx, id) {
		return nil
	}
	x.claims(ctx, id)
	mode := x.credits(ctx, id)
	x.outlets()
	return mode
}

// identity asks the metadata who this is.
func (x *examination) identity(ctx context.Context) identity.Identity {
	const check = "metadata"
	if !x.config.IMDS {
		x.report.Add(doctor.Good(check, "it is not to be asked (imds is false): no Elastic IP, no credit balance"))
		return identity.Identity{}
	}
	ctx, done := context.WithTimeout(ctx, previewPatience)
	defer done()
	var id identity.Identity
	_ = discover.Watch(ctx, discover.Options{
		IMDS: x.cloud.metadata(true), AgentURL: x.config.ECS.AgentURL, LocalAddr: x.config.LocalAddr,
	}, func(v identity.Identity) {
		id = v
		if v.Instance.Known || len(v.Problems) > 0 {
			done()
		}
	})
	in := id.Instance
	for _, p := range id.Problems {
		x.report.Add(doctor.Of(check, p))
	}
	if in.Known {
		public := "no public address"
		if len(in.Primary.PublicAddr) > 0 {
			public = "public " + in.Primary.PublicAddr[0].String()
		}
		x.report.Add(doctor.Good(check, "this is %s (%s, %s) with %s at %s, %s", in.ID, in.Type, in.Zone, in.Primary.ID, in.Primary.LocalAddr, public))
	}
	if why := id.WhyLeaving(); why != "" {
		x.report.Add(doctor.Doubtful("leaving", why, "let a stand-by take over"))
	}
	return id
}

// tagged takes the settings over that the instance's tags hold, as the agent does.
func (x *examination) tagged(id identity.Identity) config.Config {
	x.mu.Lock()
	x.tags = id.Instance.Tags
	x.mu.Unlock()
	if r, err := x.resolve(); err == nil { // it was right without them
		x.config = r.Config
	}
	for _, p := range x.tagsBad {
		x.report.Add(doctor.Of("tags", p))
	}
	return x.config
}

// ecs looks at the ECS agent, and whether it leaves nginx's ports alone.
func (x *examination) ecs(id identity.Identity) {
	const check = "ecs-agent"
	switch {
	case id.ECS.Known:
		x.report.Add(doctor.Good(check, "the ECS agent %s answers, cluster %s", id.ECS.AgentVersion, id.ECS.Cluster))
	case x.config.ECS.AgentURL != "":
		x.report.Add(doctor.Doubtful(check, "the ECS agent does not answer at "+x.config.ECS.AgentURL, "systemctl status ecs; without ECS set ecs.agent-url to nothing"))
	default:
		x.report.Add(doctor.Good(check, "it is not to be asked (ecs.agent-url is empty)"))
	}
	x.report.Add(examine.ReservedPorts("/etc/ecs/ecs.config", x.config.Nginx.HTTPPort, x.config.Nginx.HTTPSPort)...)
}

// credentials reports whether there are any, for whatever they are good.
func (x *examination) credentials(ctx context.Context) bool {
	const check = "credentials"
	ctx, cancel := context.WithTimeout(ctx, previewPatience)
	defer cancel()
	if x.cloud.base.Credentials == nil {
		return true
	}
	got, err := x.cloud.base.Credentials.Retrieve(ctx)
	if err != nil {
		x.report.Add(doctor.Bad(check, "there are no AWS credentials: "+problem.Printable(err.Error(), 300),
			"attach an instance profile whose role has the statements of packaging/iam-policy.json: aws ec2 associate-iam-instance-profile"))
		return false
	}
	x.report.Add(doctor.Good(check, "AWS credentials come from %s", problem.Printable(got.Source, 60)))
	return true
}

// reachable reports whether EC2's API answers at all, and looks at how the metadata
// may be read.
func (x *examination) reachable(ctx context.Context, id identity.Identity) bool {
	const check = "ec2-api"
	found, err := examine.Instance(ctx, x.cloud.ec2(id.Instance.Region), id.Instance, examine.InContainer())
	var api smithy.APIError
	if err != nil && !errors.As(err, &api) {
		x.report.Add(doctor.Of(check, claim.Explain(err, id)))
		return false
	}
	x.report.Add(doctor.Good(check, "EC2's API answers in %s", id.Instance.Region))
	x.report.Add(found...)
	return true
}

// claims tries everything that the claimed addresses need.
func (x *examination) claims(ctx context.Context, id identity.Identity) {
	if len(x.config.Address.Claim) == 0 {
		x.report.Add(doctor.Good("address", "none is claimed (address.claim)"))
		return
	}
	for _, p := range claim.Prove(ctx, x.claimOptions(x.config), address.Situation{Identity: id}) {
		check, text := p.What, p.Found
		if strings.HasPrefix(check, "ec2:") {
			check, text = "permission", p.What+" is "+p.Found
		}
		if p.Claim != "" {
			text += " for " + p.Claim
		}
		if p.Problem != nil {
			one := *p.Problem
			if p.Claim != "" {
				one.Text = p.Claim + ": " + one.Text
			}
			x.report.Add(doctor.Of(check, one))
			continue
		}
		x.report.Add(doctor.Good(check, "%s", text))
	}
}

// credits tries what the credit balance needs, and returns what the mode means.
func (x *examination) credits(ctx context.Context, id identity.Identity) []doctor.Finding {
	const check = "credit-mode"
	if !credit.Burstable(id.Instance.Type) {
		return []doctor.Finding{doctor.Good(check, "%s earns no CPU credits, so there is no balance and no mode", id.Instance.Type)}
	}
	mode, err := examine.CreditMode(ctx, x.cloud.ec2(id.Instance.Region), id.Instance)
	for _, one := range []struct {
		action string
		err    error
	}{
		{"ec2:DescribeInstanceCreditSpecifications", err},
		{"cloudwatch:GetMetricStatistics", examine.CreditBalance(ctx, x.cloud.cloudwatch(), id.Instance)},
	} {
		if one.err == nil {
			x.report.Add(doctor.Good("permission", "%s is allowed", one.action))
			continue
		}
		p := claim.Explain(one.err, id)
		if p.Code == "address-denied" {
			p.Text = "the instance's role may not call " + one.action
			p.Hint = `add {"Effect":"Allow","Action":"` + one.action + `","Resource":"*"} to the role's policy; until then the balance is not known and the gate stays closed`
		}
		x.report.Add(doctor.Of("permission", p))
	}
	switch mode {
	case "":
		return []doctor.Finding{doctor.Doubtful(check, "the credit mode is not known", "see the check permission")}
	case "unlimited":
		return []doctor.Finding{doctor.Good(check, "the mode is unlimited: what is spent beyond the credits of a day is charged; batches get none of that unless gate.surplus-limit says so")}
	}
	return []doctor.Finding{doctor.Good(check, "the mode is %s: without credits the instance is slowed down to its baseline, and nothing is charged", problem.Printable(mode, 40))}
}

// outlets says of permissions which know no dry run where to see whether they are
// there.
func (x *examination) outlets() {
	const check = "permission"
	const text = "%s cannot be tried without effect; a refusal is a problem in 'nagaya status'"
	if x.config.Gate.ECS {
		x.report.Add(doctor.Good(check, text, "ecs:PutAttributes"))
	}
	if x.config.Gate.BatchCE != "" {
		x.report.Add(doctor.Good(check, text, "batch:UpdateComputeEnvironment"))
	}
}
