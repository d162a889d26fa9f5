package runtime

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/nginx"
)

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := func(minor int) nginx.Build { return nginx.Build{Version: nginx.Version{Major: 1, Minor: minor}} }
		installed, asked, wrong := of(30), 0, error(nil)
		var got []int
		statuses := latest.New[nginx.Status]()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Follow(ctx, of(30), func(context.Context) (nginx.Build, error) { asked++; return installed, wrong }, statuses.C(), func(b nginx.Build) { got = append(got, b.Version.Minor) })
		}()
		for _, row := range []struct {
			name    string
			status  nginx.Status
			install int
			err     error
			asked   int
			got     []int
		}{
			{name: "none yet", install: 30},
			{name: "it runs", status: nginx.Status{PID: 7, Running: true}, install: 30},
			{name: "and is refused something", status: nginx.Status{PID: 7, Running: true, LastError: "x"}, install: 22},
			{name: "it ended", status: nginx.Status{}, install: 22},
			{name: "it does not start, nor answers", status: nginx.Status{LastError: "x"}, install: 22, err: errors.New("x"), asked: 1},
			{name: "it does not start", status: nginx.Status{LastError: "x"}, install: 22, asked: 2, got: []int{22}},
			{name: "it does not start for another reason", status: nginx.Status{LastError: "x"}, install: 22, asked: 3, got: []int{22}},
			{name: "another one runs", status: nginx.Status{PID: 8, Running: true}, install: 31, asked: 4, got: []int{22, 31}},
			{name: "the same", status: nginx.Status{PID: 8, Running: true}, install: 32, asked: 4, got: []int{22, 31}},
		} {
			installed, wrong = of(row.install), row.err
			statuses.Put(row.status)
			time.Sleep(detectPause)
			synctest.Wait()
			if asked != row.asked || !slices.Equal(got, row.got) {
				t.Errorf("%s: asked %d times, put %v", row.name, asked, got)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
