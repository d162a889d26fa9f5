package zone

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
)

// slow is a Route 53 with an empty zone that answers an error for a while, and is never in sync or after a while.
type slow struct {
	busy, sync time.Time
	code       string
	calls      int
}

func (s *slow) answer() error {
	if s.calls++; time.Now().Before(s.busy) {
		return &smithy.GenericAPIError{Code: s.code, Message: "later"}
	}
	return nil
}

func (s *slow) ListResourceRecordSets(context.Context, *route53.ListResourceRecordSetsInput, ...func(*route53.Options)) (*route53.ListResourceRecordSetsOutput, error) {
	return &route53.ListResourceRecordSetsOutput{}, s.answer()
}

func (s *slow) ChangeResourceRecordSets(context.Context, *route53.ChangeResourceRecordSetsInput, ...func(*route53.Options)) (*route53.ChangeResourceRecordSetsOutput, error) {
	return &route53.ChangeResourceRecordSetsOutput{ChangeInfo: &types.ChangeInfo{Id: aws.String("C1")}}, s.answer()
}

func (s *slow) GetChange(context.Context, *route53.GetChangeInput, ...func(*route53.Options)) (*route53.GetChangeOutput, error) {
	status := types.ChangeStatusPending
	if !time.Now().Before(s.sync) {
		status = types.ChangeStatusInsync
	}
	return &route53.GetChangeOutput{ChangeInfo: &types.ChangeInfo{Status: status}}, s.answer()
}

func TestWaiting(t *testing.T) {
	for _, row := range []struct {
		name             string
		busy, sync       time.Duration
		code, want       string
		from, most, stop time.Duration
		calls            int
	}{
		{name: "at once", calls: 3},
		{name: "in a minute", sync: time.Minute, from: time.Minute, most: 70 * time.Second, calls: 20},
		{name: "never", sync: time.Hour, want: "still lack a change of _acme-challenge.shop.test after 3m0s", from: syncMost, most: syncMost + 10*time.Second, calls: 60},
		{name: "throttled", busy: 20 * time.Second, code: "Throttling", from: 20 * time.Second, most: 40 * time.Second, calls: 10},
		{name: "another change under way", busy: 20 * time.Second, code: "PriorRequestNotComplete", from: 20 * time.Second, most: 40 * time.Second, calls: 10},
		{name: "throttled forever", busy: time.Hour, code: "ThrottlingException", want: "ThrottlingException", from: retryMost, most: retryMost + 20*time.Second, calls: 20},
		{name: "refused", busy: time.Hour, code: "AccessDenied", want: "allow route53:ListResourceRecordSets for hosted zone Z1", calls: 1},
		{name: "the end", busy: time.Hour, code: "Throttling", want: "context canceled", from: 5 * time.Second, most: 5 * time.Second, stop: 5 * time.Second, calls: 10},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				api := &slow{start.Add(row.busy), start.Add(row.sync), row.code, 0}
				z, err := New([]string{"shop.test=Z1"}, api)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				if row.stop > 0 {
					time.AfterFunc(row.stop, cancel)
				}
				err = z.Add(ctx, "_acme-challenge.shop.test", "x")
				cancel()
				if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) || row.stop > 0 && !errors.Is(err, context.Canceled) {
					t.Errorf("%v, want %q", err, row.want)
				}
				if took := time.Since(start); took < row.from || took > row.most {
					t.Errorf("it took %s", took)
				}
				if api.calls > row.calls {
					t.Errorf("%d calls", api.calls)
				}
			})
		})
	}
}
