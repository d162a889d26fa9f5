package awserror

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/smithy-go"
)

func TestErrors(t *testing.T) {
	api := func(code, text string) error {
		return fmt.Errorf("calling: %w", &smithy.GenericAPIError{Code: code, Message: text})
	}
	for _, row := range []struct {
		err    error
		denied bool
		want   string
	}{
		{api("UnauthorizedOperation", "no"), true, `it failed: "UnauthorizedOperation" ("no")`},
		{api("AccessDeniedException", "a\nb"), true, `it failed: "AccessDeniedException" ("a\nb")`},
		{api("Throttling", "slow"), false, `it failed: "Throttling" ("slow")`},
		{errors.New("dial\x1b"), false, `it failed: "dial\x1b"`},
	} {
		if got := Denied(row.err); got != row.denied {
			t.Errorf("%v: denied %v", row.err, got)
		}
		if got := Sentence("it failed", row.err); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
	}
}
