package errorlog

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	file := nginx.ErrorLog(dir)
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Trim(ctx, dir, log) }() // there is no file yet
		for _, step := range []struct{ have, want int64 }{{100, 100}, {maxSize, maxSize}, {maxSize + 1, 0}} {
			if err := os.WriteFile(file, make([]byte, step.have), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(every)
			synctest.Wait()
			if got := size(); got != step.want {
				t.Errorf("of %d bytes %d are left, want %d", step.have, got, step.want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
