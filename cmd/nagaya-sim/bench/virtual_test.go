package bench

import "testing"

func TestAttributesOfTests(t *testing.T) {
	got := readAttributes(`=== RUN   TestA
=== RUN   TestA/one
=== ATTR  TestA/one Describe 248
=== ATTR  TestA/one moves 3 and more
--- PASS: TestA (0.01s)
    --- PASS: TestA/one (0.01s)
=== RUN   TestB
=== ATTR  TestB calls 7
--- FAIL: TestB (0.01s)
FAIL
`)
	one := got["TestA/one"]
	if one == nil || !one.passed || len(one.attributes) != 2 || one.attributes[0].key != "Describe" || one.attributes[1].value != "3 and more" {
		t.Errorf("TestA/one: %+v", one)
	}
	if b := got["TestB"]; b == nil || b.passed || len(b.attributes) != 1 {
		t.Errorf("TestB: %+v", b)
	}
	if a := got["TestA"]; a == nil || !a.passed || got["TestC"] != nil {
		t.Errorf("TestA: %+v, TestC: %+v", a, got["TestC"])
	}
}
