package route_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	. "github.com/nagaya-ecs/nagaya/agent/route"
)

// The names that may be configured are those that are known here.
func TestPoliciesThatMayBeConfigured(t *testing.T) {
	var names []string
	for _, p := range TLSPolicies {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff(config.TLSPolicies, names); diff != "" {
		t.Error(diff)
	}
	if config.Default().Routes.TLSPolicy != DefaultTLSPolicy {
		t.Errorf("the default is %s there and %s here", config.Default().Routes.TLSPolicy, DefaultTLSPolicy)
	}
}
