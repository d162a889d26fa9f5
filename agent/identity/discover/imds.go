package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// maxAnswer bounds one answer of instance metadata, in bytes; tags are the
// largest, at most 256 characters each.
const maxAnswer = 16 << 10

// maxTags is how many tags an instance may have (EC2 User Guide, tag restrictions: 50).
const maxTags = 50

// readInstance reads what must be noticed within seconds, and in a full reading also what
// changes rarely. What cannot change while the
// instance runs is read once; notices that are not read stay.
func readInstance(ctx context.Context, c *imds.Client, last identity.Identity, full bool) (identity.Instance, []identity.Notice, error) {
	r := reader{ctx: ctx, c: c}
	in := last.Instance
	if !in.Known {
		in = r.fixed()
	}
	in.Primary.PublicAddr = r.addrs(interfaces + in.Primary.MAC + "/public-ipv4s")
	in.Others = r.others(in, full)
	var notices []identity.Notice
	if in.LifeCycle == "spot" {
		notices = r.spotNotices()
	}
	if state := r.text("autoscaling/target-lifecycle-state"); state == "Terminated" {
		notices = append(notices, identity.Notice{Kind: identity.AutoScalingTermination, Text: "Auto Scaling terminates this instance"})
	}
	if full {
		in.Tags, in.TagsKnown = r.tags()
		return in, append(notices, r.maintenance()...), r.err
	}
	for _, n := range last.Notices {
		if n.Kind == identity.Maintenance || n.Kind == identity.Retirement {
			notices = append(notices, n)
		}
	}
	return in, notices, r.err
}

// interfaces is the directory of all network interfaces, by MAC.
const interfaces = "network/interfaces/macs/"

// maxOthers bounds the further interfaces that are read: no instance type has more
// (EC2 User Guide, "Maximum IP addresses per network interface").
const maxOthers = 14

// others reads the further interfaces: in a full reading which there are, in between
// only whether those with a public address still have it.
func (r *reader) others(in identity.Instance, full bool) []identity.Interface {
	all := slices.Clone(in.Others)
	if full {
		all = nil
		for _, mac := range strings.Fields(r.text(interfaces)) {
			if mac = strings.TrimSuffix(mac, "/"); mac != in.Primary.MAC && len(all) < maxOthers {
				all = append(all, identity.Interface{MAC: mac, ID: r.text(interfaces + mac + "/interface-id")})
			}
		}
	}
	for i, n := range all {
		if full || len(n.PublicAddr) > 0 {
			all[i].PublicAddr = r.addrs(interfaces + n.MAC + "/public-ipv4s")
		}
	}
	if r.err != nil {
		return in.Others
	}
	return all
}

// reader reads metadata paths and keeps the first failure; after one it reads
// nothing more, so that an endpoint that is gone costs one time-out.
type reader struct {
	ctx context.Context
	c   *imds.Client
	err error
}

// fixed reads what cannot change while the instance runs.
func (r *reader) fixed() identity.Instance {
	doc, err := r.c.GetInstanceIdentityDocument(r.ctx, &imds.GetInstanceIdentityDocumentInput{})
	if err != nil {
		r.err = fmt.Errorf("reading the instance identity document: %w", err)
		return identity.Instance{}
	}
	in := identity.Instance{
		Known: true, ID: doc.InstanceID, Type: doc.InstanceType, Region: doc.Region, Zone: doc.AvailabilityZone,
		AccountID: doc.AccountID, ImageID: doc.ImageID, Architecture: doc.Architecture, StartedAt: doc.PendingTime,
		LifeCycle: r.text("instance-life-cycle"),
	}
	// "mac" is the address of device number 0 (EC2 User Guide, instance metadata categories).
	mac := r.text("mac")
	base := interfaces + mac + "/"
	in.Primary = identity.Interface{MAC: mac, ID: r.text(base + "interface-id"), SubnetID: r.text(base + "subnet-id"), VPCID: r.text(base + "vpc-id")}
	if a := r.addrs("local-ipv4"); len(a) > 0 {
		in.Primary.LocalAddr = a[0]
	}
	return in
}

// text reads one path; the empty text when it is absent.
func (r *reader) text(path string) string {
	s, _ := r.maybe(path)
	return s
}

// maybe reads one path and reports whether it is there: that it is absent is a fact, not a
// failure.
func (r *reader) maybe(path string) (string, bool) {
	if r.err != nil {
		return "", false
	}
	out, err := r.c.GetMetadata(r.ctx, &imds.GetMetadataInput{Path: path})
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.HTTPStatusCode() == http.StatusNotFound {
		return "", false
	}
	var text []byte
	if err == nil {
		defer out.Content.Close()
		text, err = io.ReadAll(io.LimitReader(out.Content, maxAnswer))
	}
	if err != nil {
		r.err = fmt.Errorf("reading metadata %s: %w", path, err)
	}
	return strings.TrimSpace(string(text)), err == nil
}

func (r *reader) addrs(path string) []netip.Addr {
	var all []netip.Addr
	for _, f := range strings.Fields(r.text(path)) {
		if a, err := netip.ParseAddr(f); err == nil {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

func (r *reader) tags() (map[string]string, bool) {
	list, ok := r.maybe("tags/instance")
	if !ok {
		return nil, false
	}
	tags := map[string]string{}
	for key := range strings.SplitSeq(list, "\n") {
		if key = strings.TrimSpace(key); key == "" || len(tags) >= maxTags {
			continue
		}
		if v, ok := r.maybe("tags/instance/" + key); ok {
			tags[key] = v
		}
	}
	return tags, r.err == nil
}

// spotNotices are for Spot Instances only (EC2 User Guide, "Spot Instance
// interruption notices" and "EC2 instance rebalance recommendations").
func (r *reader) spotNotices() []identity.Notice {
	var all []identity.Notice
	if s, ok := r.maybe("spot/instance-action"); ok {
		var v struct {
			Action string
			Time   time.Time
		}
		n := identity.Notice{Kind: identity.SpotInterruption, Text: printable(s)}
		if json.Unmarshal([]byte(s), &v) == nil {
			n.Text, n.At = printable(v.Action), v.Time
		}
		all = append(all, n)
	}
	if s, ok := r.maybe("events/recommendations/rebalance"); ok {
		var v struct{ NoticeTime time.Time }
		_ = json.Unmarshal([]byte(s), &v) // the notice counts even if its time cannot be read
		all = append(all, identity.Notice{Kind: identity.Rebalance, Text: "rebalance recommended", At: v.NoticeTime})
	}
	return all
}

// maxEvents bounds the scheduled events that are kept.
const maxEvents = 10

func (r *reader) maintenance() (all []identity.Notice) {
	var events []struct{ Code, State, NotBefore string }
	_ = json.Unmarshal([]byte(r.text("events/maintenance/scheduled")), &events) // none where there is no text
	for _, e := range events[:min(len(events), maxEvents)] {
		if e.State != "active" {
			continue
		}
		n := identity.Notice{Text: printable(e.Code)}
		if at, err := time.Parse("2 Jan 2006 15:04:05 MST", e.NotBefore); err == nil {
			n.At = at
		}
		n.Kind = identity.ScheduledKind(e.Code, n.At, time.Now())
		all = append(all, n)
	}
	return all
}

// printable makes a text from metadata fit to be shown.
func printable(s string) string { return problem.Printable(s, 200) }

// answered finds the status in the text of an error: the SDK does not let errors.As
// see what kept it from getting a token.
var answered = regexp.MustCompile(`StatusCode: ([1-5][0-9][0-9])\b`)

// explain turns a failure to read instance metadata into what the operator reads.
// The text depends on the cause alone, not on the path or the attempt, so that a
// problem that lasts is one problem. The whole error is in the journal.
func explain(err error, known bool) problem.Problem {
	const hint = "not on EC2 there is none: routes work, the rest does not. In a container set the instance's metadata hop limit to 2 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2) or use the host network"
	p := problem.Of("identity", "imds-unreachable", hint, "instance metadata does not answer")
	if known {
		p.Severity = problem.Warning
	}
	if status := answered.FindStringSubmatch(err.Error()); status != nil {
		p.Text = "instance metadata answered with HTTP status " + status[1]
		p.Hint = "check that the instance's metadata options allow version 2; routes work meanwhile"
	}
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		p.Code, p.Text = "imds-disabled", "instance metadata is switched off by AWS_EC2_METADATA_DISABLED"
		p.Hint = "remove the variable; without it there is no Elastic IP, no credit balance and no gate; routes work"
	}
	return p
}
