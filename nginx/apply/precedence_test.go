package apply

import (
	"testing"
	"time"
)

// Of expressions that match one name the oldest answers, whatever they are and however they
// are spelt.
func TestTheOldestExpressionAnswers(t *testing.T) { each(t, testTheOldestExpressionAnswers) }

func testTheOldestExpressionAnswers(t *testing.T, r *rig) {
	r.run()
	old, young := backend(t, "old"), backend(t, "young")
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, padding := range []string{"", "x?", "y?", "z?", "(x|y)?"} {
		first, second := site("~^[a-z]+[.]re[.]test$", old), site("~^"+padding+"[a-z]+[.]re[.]tes[t]$", young)
		first.Since, second.Since = start, start.Add(time.Second)
		r.serve(r.tree(first, second))
		r.expect(r.http("shop.re.test", "/"), 200, "old")
		first.Since = start.Add(time.Minute)
		r.serve(r.tree(first, second))
		r.expect(r.http("shop.re.test", "/"), 200, "young")
	}
}
