package zone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// Try shows whether a zone may be listed and changed, and changes nothing: it asks to delete a record with
// a value that nobody has, which Route 53 refuses after it has looked at permissions.
func (z *Zones) Try(ctx context.Context, zone string) error {
	set, err := z.set("_acme-challenge.nagaya-doctor."+zone, rand.Text())
	if err != nil {
		return err
	}
	if _, err := set.read(ctx); err != nil {
		return err
	}
	_, err = set.submit(ctx, &types.ChangeBatch{Changes: []types.Change{{Action: types.ChangeActionDelete, ResourceRecordSet: &types.ResourceRecordSet{
		Name: aws.String(set.name + "."), Type: types.RRTypeTxt, TTL: aws.Int64(ttl), ResourceRecords: []types.ResourceRecord{{Value: &set.value}},
	}}}})
	if _, refused := errors.AsType[*types.InvalidChangeBatch](err); refused {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the hosted zone %s for %s has deleted a record that is not there", set.id, zone)
	}
	return err
}
