package zone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
)

// recordSet is the TXT record set of a name, and the value, in quotation marks, that is changed in it.
type recordSet struct {
	*Zones
	zone, id, name, value string
}

// change has the record set have the value, or not have it, and returns the id of the change; empty where there
// was nothing to change. Route 53 has no version of a record set, but it deletes one only if it is given as it
// is, creates none that exists, and does a batch as a whole or not at all. So deleting what was seen and
// creating what is wanted is compare-and-swap: no writer undoes what another one has done.
func (s recordSet) change(ctx context.Context, has bool) (id string, err error) {
	before, err := s.read(ctx)
	for range mostRaces {
		if err != nil {
			return "", err
		}
		var batch types.ChangeBatch
		var records []types.ResourceRecord
		if before != nil {
			batch.Changes = append(batch.Changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: before})
			records = slices.DeleteFunc(slices.Clone(before.ResourceRecords), func(r types.ResourceRecord) bool { return aws.ToString(r.Value) == s.value })
			if !has && len(records) == len(before.ResourceRecords) {
				return "", nil
			}
		} else if !has {
			return "", nil
		}
		if has {
			// One that is there already is written again: that change says when all name servers have it.
			records = append(records, types.ResourceRecord{Value: &s.value})
		}
		if len(records) > mostValues {
			return "", fmt.Errorf("the TXT record %s has %d values already: remove those that nothing needs", s.name, len(before.ResourceRecords))
		}
		if len(records) > 0 {
			batch.Changes = append(batch.Changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: &types.ResourceRecordSet{
				Name: aws.String(s.name + "."), Type: types.RRTypeTxt, TTL: aws.Int64(ttl), ResourceRecords: records,
			}})
		}
		id, failed := s.submit(ctx, &batch)
		if _, refused := errors.AsType[*types.InvalidChangeBatch](failed); !refused {
			return id, failed
		}
		seen := before
		if before, err = s.read(ctx); err == nil && same(seen, before) {
			return "", failed // nobody else has changed it, so the change is wrong
		}
	}
	return "", fmt.Errorf("the TXT record %s is changed by others all the time", s.name)
}

// read returns the record set as it is, nil for none.
func (s recordSet) read(ctx context.Context) (*types.ResourceRecordSet, error) {
	var out *route53.ListResourceRecordSetsOutput
	err := s.call(ctx, "ListResourceRecordSets", func() (err error) {
		out, err = s.api.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &s.id, StartRecordName: aws.String(s.name + "."), MaxItems: aws.Int32(20)})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, set := range out.ResourceRecordSets {
		switch {
		case plain(aws.ToString(set.Name)) != s.name:
		case set.Type == types.RRTypeCname:
			return nil, fmt.Errorf("%s is a CNAME in zone %s, beside which no TXT record can be: name the zone that it leads to in certs.acme.zones, or remove it", s.name, s.zone)
		case set.Type != types.RRTypeTxt:
		case set.SetIdentifier != nil || set.TTL == nil:
			return nil, fmt.Errorf("the TXT record %s has a routing policy, with which no value can be added: make it a simple one", s.name)
		default:
			return &set, nil
		}
	}
	return nil, nil
}

// same reports whether two readings are of one state.
func same(a, b *types.ResourceRecordSet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return aws.ToInt64(a.TTL) == aws.ToInt64(b.TTL) && slices.EqualFunc(a.ResourceRecords, b.ResourceRecords, func(x, y types.ResourceRecord) bool {
		return aws.ToString(x.Value) == aws.ToString(y.Value)
	})
}

func (s recordSet) submit(ctx context.Context, batch *types.ChangeBatch) (id string, err error) {
	err = s.call(ctx, "ChangeResourceRecordSets", func() error {
		out, err := s.api.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &s.id, ChangeBatch: batch})
		if err == nil && out.ChangeInfo != nil {
			id = aws.ToString(out.ChangeInfo.Id)
		}
		return err
	})
	return id, err
}

// wait returns when all name servers have a change.
func (s recordSet) wait(ctx context.Context, change string) error {
	pause := backoff.Backoff{First: time.Second, Most: 5 * time.Second}
	for end := time.Now().Add(syncMost); time.Now().Before(end); {
		var out *route53.GetChangeOutput
		err := s.call(ctx, "GetChange", func() (err error) {
			out, err = s.api.GetChange(ctx, &route53.GetChangeInput{Id: &change})
			return err
		})
		switch {
		case err != nil:
			return err
		case out.ChangeInfo != nil && out.ChangeInfo.Status == types.ChangeStatusInsync:
			return nil
		case !backoff.Sleep(ctx, pause.Next()):
			return ctx.Err()
		}
	}
	return fmt.Errorf("the name servers of zone %s still lack a change of %s after %s", s.zone, s.name, syncMost)
}

// call tries a call until Route 53 takes it: it allows 5 requests a second for all of an account, and one
// change of a zone at a time.
func (s recordSet) call(ctx context.Context, action string, f func() error) error {
	pause := backoff.Backoff{First: time.Second, Most: 15 * time.Second}
	for end := time.Now().Add(retryMost); ; {
		err := f()
		if !slices.Contains(busy, awserror.Code(err)) || time.Now().After(end) {
			return s.explain(action, err)
		}
		if !backoff.Sleep(ctx, pause.Next()) {
			return ctx.Err()
		}
	}
}

// busy are the codes of what is worth trying again.
var busy = []string{"PriorRequestNotComplete", "Throttling", "ThrottlingException", "ServiceUnavailable", "InternalFailure"}

// explained is an error in words that stay the same when it comes again: AWS's SDK has the request's id in its own.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }

func (e *explained) Unwrap() error { return e.err }

// explain says what an error is about and what to do.
func (s recordSet) explain(action string, err error) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("route53:%s of %s in hosted zone %s", action, s.name, s.id)
	if _, none := errors.AsType[*types.NoSuchHostedZone](err); none {
		what = fmt.Sprintf("certs.acme.zones: there is no hosted zone %s for %s in this account: correct its id", s.id, s.zone)
	} else if awserror.Denied(err) {
		what = fmt.Sprintf("the role of the instance may not change %s: allow route53:%s for hosted zone %s", s.name, action, s.id)
	} else if batch, refused := errors.AsType[*types.InvalidChangeBatch](err); refused { // its own text is always the same
		what += fmt.Sprintf(": %.300q", batch.Messages)
	}
	return &explained{awserror.Sentence(what, err), err}
}
