package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// wrong is the error of a request that needs that permission.
func (b *bucket) wrong(permission string, err error) error {
	what := fmt.Sprintf("%s on s3://%s/%s", permission, b.name, b.prefix)
	return &certs.StoreError{Text: awserror.Sentence(what, err), Remedy: b.remedy(permission, err), Err: err}
}

// remedy says what to do about an answer of S3 (S3 API reference, "Error responses").
func (b *bucket) remedy(permission string, err error) string {
	c, text := awserror.Code(err), ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text = api.ErrorMessage()
	}
	switch {
	case strings.HasPrefix(c, "KMS."):
		return "let certs.store-kms-key, or the bucket's default, be a KMS key of the bucket's Region that is enabled"
	case awserror.Denied(err) && strings.Contains(text, "kms:"):
		return "allow the role of the instance kms:GenerateDataKey and kms:Decrypt by the KMS key, also in the key's policy"
	case awserror.Denied(err) && permission == "s3:PutObject":
		return fmt.Sprintf("allow the role of the instance s3:PutObject on %s%s*; if the bucket's policy demands SSE-KMS, set certs.store-kms-key", b.name, "/"+b.prefix)
	case awserror.Denied(err), c == "Forbidden":
		return fmt.Sprintf("allow the role of the instance s3:ListBucket on the bucket %s, and s3:GetObject and s3:PutObject on %s/%s*", b.name, b.name, b.prefix)
	}
	switch c {
	case "NoSuchBucket":
		return "make the bucket, or correct certs.store"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed":
		return "the bucket is in another Region: correct AWS_REGION or AWS_ENDPOINT_URL_S3, where they are set"
	case "RequestTimeTooSkewed", "RequestExpired":
		return "set the clock of this host (chronyc makestep)"
	case "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return "look at the role of the instance, and at AWS's variables in the agent's environment"
	case "":
		return "give the instance a role, and a way to S3: a route, NAT, or a gateway endpoint; it is tried again"
	}
	return "it is tried again"
}
