package stages

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestGroup(t *testing.T) {
	untilDone := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for name, row := range map[string]struct {
		stage func(context.Context) error
		want  string
	}{
		"a stage fails":          {func(context.Context) error { return errors.New("broken") }, "s: broken"},
		"a stage ends by itself": {func(context.Context) error { return nil }, "ended by itself"},
		"cancelled from outside": {untilDone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				g := New(ctx)
				ended := 0
				g.Run("other", func(ctx context.Context) error { <-ctx.Done(); ended++; return nil })
				g.Run("s", row.stage)
				if row.want == "" {
					cancel()
				}
				err := g.Wait()
				cancel()
				if ended != 1 {
					t.Error("a stage outlived the group")
				}
				if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %v, want %q", err, row.want)
				}
			})
		})
	}
}
