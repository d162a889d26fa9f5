package gate

import (
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

func TestOneProcessorIsNotManyInAReason(t *testing.T) {
	v := view{busy: 0.6, report: credit.Report{VCPUs: 1}}
	if _, _, why := v.judgeLoad(false, 1); why != "1 running job on 1 processor" {
		t.Error(why)
	}
	if _, _, why := v.judgeLoad(false, 0); !strings.Contains(why, "of 1 processor,") {
		t.Error(why)
	}
}
