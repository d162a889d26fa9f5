package examine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// patience bounds what another part of the program is asked for.
const patience = 8 * time.Second

// ErrNoAgent is the error of Parts.Agent where no agent runs.
var ErrNoAgent = errors.New("no agent runs here")

// Parts are what other parts of the program are asked for. Each call ends with its context,
// after 8 s at the latest.
type Parts struct {
	// Wrong is what is wrong with the configuration; what depends on it is examined with defaults.
	Wrong []problem.Problem
	// Agent returns how many problems the agent of this host has, and how many of them are
	// errors.
	Agent func(context.Context) (severe, all int, err error)
	// Identity asks instance metadata and the ECS agent who this is.
	Identity func(context.Context) identity.Identity
	// Tagged returns the configuration with the settings of instance tags, and what is
	// wrong with those.
	Tagged func(tags map[string]string) (config.Config, []problem.Problem)
	// Nginx returns what the nginx that would be run can do.
	Nginx func(context.Context, config.Config) (nginx.Build, *problem.Problem)
	// Certificates returns what is in the directory of certificates.
	Certificates func(context.Context, config.Config) (certs.Inventory, error)
	// Orders are the parts that order certificates.
	Orders Orders
	// Claims tries everything that the claimed addresses need.
	Claims func(context.Context, config.Config, identity.Identity) []address.Proof
	// Explain makes a problem of an error of EC2.
	Explain func(error, identity.Identity) problem.Problem
}

// AWS is how AWS is asked.
type AWS struct {
	// Clock must be in the path of the requests of EC2 and CloudWatch.
	Clock *Clock
	// Credentials may be nil, where there is nothing to ask for them.
	Credentials aws.CredentialsProvider
	EC2         func(region string) EC2
	CloudWatch  Metrics
}

// Run makes every check: who this is and what it may do, what it needs of others on this
// machine, then the machine itself.
func Run(ctx context.Context, c config.Config, parts Parts, cloud AWS) doctor.Report {
	x := &examination{Parts: parts, AWS: cloud, config: c}
	for _, p := range x.Wrong {
		x.Add(doctor.Bad("configuration", bounded(errors.New(p.Text)), "correct it ('nagaya check'): what depends on it is examined with its default below"))
	}
	x.limited(ctx, x.running)
	id := x.identity(ctx)
	var wrong []problem.Problem
	x.config, wrong = x.Tagged(id.Instance.Tags)
	x.problems("tags", wrong)
	credits := x.aws(ctx, id)

	c = x.config
	x.Add(Docker(ctx, c.Docker.Host))
	x.ecs(id)
	x.nginx(ctx)
	x.Add(OtherNginx(ctx, "/etc/systemd/system/multi-user.target.wants")...)
	ours, unseen := Runs(filepath.Join(c.RunDir, "nginx", "nginx.pid"))
	for _, port := range []int{int(c.Nginx.HTTPPort), int(c.Nginx.HTTPSPort)} {
		x.Add(Port(port, ours, unseen))
	}
	x.limited(ctx, x.certificates)
	x.orders(ctx)

	x.Add(x.Clock.Finding()...)
	for _, d := range [][2]string{{"state-dir", c.StateDir}, {"run-dir", c.RunDir}, {"log-dir", c.LogDir}} {
		x.Add(Directory(d[0], d[1]))
	}
	x.Add(Cgroup(c.Credit.CgroupDir))
	x.Add(credits...)
	x.Add(Journal("", systemd.MessageID(event.AgentStarted))...)
	return x.Report
}

// examination is one call of Run.
type examination struct {
	Parts
	AWS
	doctor.Report
	config config.Config
}

// limited lets a check take so long as other parts of the program may.
func (x *examination) limited(ctx context.Context, check func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	check(ctx)
}

func (x *examination) problems(check string, ps []problem.Problem) {
	for _, p := range ps {
		x.Add(doctor.Of(check, p))
	}
}

// running asks the agent of this host what is wrong.
func (x *examination) running(ctx context.Context) {
	const check = "agent"
	severe, all, err := x.Agent(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		x.Add(doctor.Doubtful(check, "this user may not ask the agent, nor see all that is examined below", "run this as root"))
	case errors.Is(err, ErrNoAgent):
		x.Add(doctor.Doubtful(check, "no agent runs here", "systemctl enable --now --no-block nagaya"))
	case err != nil:
		x.Add(doctor.Bad(check, "the agent does not report its status: "+bounded(err), "journalctl -u nagaya -e"))
	case severe > 0:
		x.Add(doctor.Bad(check, fmt.Sprintf("the agent runs, with problems: %d, %d of them severe", all, severe), "see 'nagaya status'"))
	case all > 0:
		x.Add(doctor.Doubtful(check, fmt.Sprintf("the agent runs, with problems: %d", all), "see 'nagaya status'"))
	default:
		x.Add(doctor.Good(check, "the agent runs, and has no problems"))
	}
}

// identity asks instance metadata who this is.
func (x *examination) identity(ctx context.Context) identity.Identity {
	const check = "metadata"
	if !x.config.IMDS {
		x.Add(doctor.Good(check, "it is not asked (imds is false): no Elastic IP, no credit balance"))
		return identity.Identity{}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := x.Identity(ctx)
	x.problems(check, id.Problems)
	if in := id.Instance; in.Known {
		public := "no public address"
		if len(in.Primary.PublicAddr) > 0 {
			public = "public " + in.Primary.PublicAddr[0].String()
		}
		x.Add(doctor.Good(check, "this is %s (%s, %s) with %s at %s, %s", in.ID, in.Type, in.Zone, in.Primary.ID, in.Primary.LocalAddr, public))
	}
	if why := id.WhyLeaving(); why != "" {
		x.Add(doctor.Doubtful("leaving", why, "let a standby take over"))
	}
	return id
}

// aws checks what this machine may do. It returns what it found about the credits.
func (x *examination) aws(ctx context.Context, id identity.Identity) []doctor.Finding {
	if !id.Instance.Known {
		if len(x.config.Address.Claim) > 0 {
			x.Add(doctor.Bad("address", "the claimed addresses cannot be checked without instance metadata", "see the check metadata"))
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

// ecs checks the ECS agent, and whether it leaves nginx's ports alone.
func (x *examination) ecs(id identity.Identity) {
	const check = "ecs-agent"
	switch {
	case id.ECS.Known:
		x.Add(doctor.Good(check, "the ECS agent %s answers, cluster %s", id.ECS.AgentVersion, id.ECS.Cluster))
	case x.config.ECS.AgentURL != "":
		x.Add(doctor.Doubtful(check, "the ECS agent does not answer at "+x.config.ECS.AgentURL, "systemctl status ecs; without ECS set ecs.agent-url to nothing"))
	default:
		x.Add(doctor.Good(check, "it is not asked (ecs.agent-url is empty)"))
	}
	x.Add(ReservedPorts("/etc/ecs/ecs.config", int(x.config.Nginx.HTTPPort), int(x.config.Nginx.HTTPSPort))...)
}

func (x *examination) nginx(ctx context.Context) {
	const check = "nginx"
	build, p := x.Nginx(ctx, x.config)
	switch {
	case p != nil:
		x.Add(doctor.Of(check, *p))
	case build.Stream == "":
		x.Add(doctor.Doubtful(check, fmt.Sprintf("nginx %s has no stream module: routes with ports of their own and passed TLS do not work", build.Version),
			"install it, e.g. apt install libnginx-mod-stream or dnf install nginx-mod-stream"))
	default:
		x.Add(doctor.Good(check, "nginx %s has the modules that are needed", build.Version))
	}
}

func (x *examination) certificates(ctx context.Context) {
	const check = "certificates"
	v, err := x.Certificates(ctx, x.config)
	if err != nil {
		x.Add(doctor.Bad(check, bounded(err), "correct certs.dir"))
	}
	x.problems(check, v.Problems)
	if len(v.Problems) == 0 && err == nil {
		x.Add(doctor.Good(check, "%s in %s can be used", problem.Counted(len(v.Pairs), "certificate"), x.config.Certs.Dir))
	}
}

// credentials reports whether there are any, whatever they allow.
func (x *examination) credentials(ctx context.Context) bool {
	const check = "credentials"
	if x.Credentials == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, err := x.Credentials.Retrieve(ctx)
	if err != nil {
		x.Add(doctor.Bad(check, "there are no AWS credentials: "+bounded(err),
			"attach an instance profile whose role has the statements of packaging/iam-policy.json: aws ec2 associate-iam-instance-profile"))
		return false
	}
	x.Add(doctor.Good(check, "AWS credentials come from %s", problem.Printable(got.Source, 60)))
	return true
}

// reachable reports whether EC2's API answers at all, and checks how the metadata may be
// read.
func (x *examination) reachable(ctx context.Context, id identity.Identity) bool {
	const check = "ec2-api"
	found, err := Instance(ctx, x.EC2(id.Instance.Region), id.Instance, InContainer())
	var api smithy.APIError
	if err != nil && !errors.As(err, &api) {
		x.Add(doctor.Of(check, x.Explain(err, id)))
		return false
	}
	x.Add(doctor.Good(check, "EC2's API answers in %s", id.Instance.Region))
	x.Add(found...)
	return true
}

// claims tries everything that the claimed addresses need.
func (x *examination) claims(ctx context.Context, id identity.Identity) {
	if len(x.config.Address.Claim) == 0 {
		x.Add(doctor.Good("address", "none is claimed (address.claim)"))
		return
	}
	for _, p := range x.Claims(ctx, x.config, id) {
		check, text := p.What, p.Found
		if strings.HasPrefix(check, "ec2:") {
			check, text = "permission", p.What+" is "+p.Found
		}
		if p.Problem != nil {
			one := *p.Problem
			if p.Claim != "" {
				one.Text = p.Claim + ": " + one.Text
			}
			x.Add(doctor.Of(check, one))
			continue
		}
		if p.Claim != "" {
			text += " for " + p.Claim
		}
		x.Add(doctor.Good(check, "%s", text))
	}
}

// credits tries what the credit balance needs, and returns what the mode means.
func (x *examination) credits(ctx context.Context, id identity.Identity) []doctor.Finding {
	const check = "credit-mode"
	if !credit.Burstable(id.Instance.Type) {
		return []doctor.Finding{doctor.Good(check, "%s earns no CPU credits, so there is no balance and no mode", id.Instance.Type)}
	}
	mode, err := CreditMode(ctx, x.EC2(id.Instance.Region), id.Instance)
	for _, one := range []struct {
		action string
		err    error
	}{
		{"ec2:DescribeInstanceCreditSpecifications", err},
		{"cloudwatch:GetMetricStatistics", CreditBalance(ctx, x.CloudWatch, id.Instance)},
	} {
		if one.err == nil {
			x.Add(doctor.Good("permission", "%s is allowed", one.action))
			continue
		}
		p := x.Explain(one.err, id)
		if awserror.Denied(one.err) {
			p.Text = "the instance's role may not call " + one.action
			p.Hint = `add {"Effect":"Allow","Action":"` + one.action + `","Resource":"*"} to the role's policy; until then the balance is not known and the gate stays closed`
		}
		x.Add(doctor.Of("permission", p))
	}
	switch mode {
	case "":
		return []doctor.Finding{doctor.Doubtful(check, "the credit mode is not known", "see the check permission")}
	case "unlimited":
		return []doctor.Finding{doctor.Good(check, "the mode is unlimited: what is spent beyond the credits of a day is charged; batches get none of that unless gate.surplus-limit allows it")}
	}
	return []doctor.Finding{doctor.Good(check, "the mode is %s: without credits the instance is slowed down to its baseline, and nothing is charged", problem.Printable(mode, 40))}
}

// outlets names the permissions that know no dry run, and where a refusal is shown.
func (x *examination) outlets() {
	for _, outlet := range []struct {
		used   bool
		action string
	}{
		{x.config.Gate.ECS, "ecs:PutAttributes"},
		{x.config.Gate.BatchCE != "", "batch:UpdateComputeEnvironment"},
	} {
		if outlet.used {
			x.Add(doctor.Good("permission", "%s cannot be tried without effect; a refusal is a problem in 'nagaya status'", outlet.action))
		}
	}
}
