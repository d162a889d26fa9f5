// Package awserror reads the errors that AWS's SDK returns, for those who turn
// them into problems.
package awserror

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/smithy-go"
)

// Code is that of an error that AWS answered with, e.g. "AuthFailure"; empty for any other error.
func Code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// Denied reports whether AWS refused for want of a permission. The services do
// not agree on the code.
func Denied(err error) bool {
	return slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}, Code(err))
}

// Sentence says what failed and why; what AWS or the network said is quoted and
// bounded.
func Sentence(what string, err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Sprintf("%s: %.60q (%.200q)", what, api.ErrorCode(), api.ErrorMessage())
	}
	return fmt.Sprintf("%s: %.200q", what, err.Error())
}
