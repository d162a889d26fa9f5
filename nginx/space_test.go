package nginx

import "testing"

func TestSpaceIsLow(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, row := range []struct {
		name       string
		before     bool
		left, size uint64
		low        bool
		reserve    int64
	}{
		{"much", false, 5 * gib, 10 * gib, false, 64 * mib},
		{"just enough", false, 256 * mib, 10 * gib, false, 0},
		{"less", false, 256*mib - 1, 10 * gib, true, 0},
		{"low, and more again", true, 512*mib - 1, 10 * gib, true, 0},
		{"low, and twice as much", true, 512 * mib, 10 * gib, false, 64 * mib},
		{"a small disk", false, 100 * mib, 1000 * mib, false, 50 * mib / 4},
		{"little on a small disk", false, 50*mib - 1, 1000 * mib, true, 0},
		{"full", false, 0, 10 * gib, true, 0},
		{"grown under it", true, 600 * mib, 100 * gib, false, 64 * mib},
		{"no size is said", false, 0, 0, false, 0},
	} {
		before := Space{Dir: "/x", Low: row.before}
		got := before.Seen(row.left, row.size)
		if want := (Space{"/x", row.left, row.size, row.low}); got != want {
			t.Errorf("%s: %+v, want %+v", row.name, got, want)
		}
		if got := got.Reserve(); got != row.reserve {
			t.Errorf("%s: a reserve of %d bytes, want %d", row.name, got, row.reserve)
		}
	}
}
