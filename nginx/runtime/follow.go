package runtime

import (
	"context"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// detectPause is the shortest pause between two questions of Follow.
const detectPause = 10 * time.Second

// Follow asks nginx again what it can do when another master runs, and while none starts, and puts what differs from
// known, until ctx ends; then it returns nil. An nginx that was replaced by an older one refuses all that the newer one
// understood.
func Follow(ctx context.Context, known nginx.Build, detect func(context.Context) (nginx.Build, error), statuses <-chan nginx.Status, put func(nginx.Build)) error {
	for master := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case s := <-statuses:
			another := s.PID != 0 && master != 0 && s.PID != master
			if s.PID != 0 {
				master = s.PID
			}
			if !another && (s.PID != 0 || s.LastError == "") {
				continue
			}
		}
		if b, err := detect(ctx); err == nil && b != known {
			known = b
			put(b)
		}
		if !backoff.Sleep(ctx, detectPause) {
			return nil
		}
	}
}
