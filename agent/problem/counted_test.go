package problem

import "testing"

func TestCounted(t *testing.T) {
	for n, want := range map[int]string{0: "0 hosts", 1: "1 host", 2: "2 hosts"} {
		if got := Counted(n, "host"); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
