package stage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/demo"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// This test is here and not beside the demonstration because all that play on one
// Docker Engine must take turns: every agent sees every container.

// The agent is killed after every step of the demonstration and started again:
// what was served is served all the while, and the play goes on to its end.
func TestDemonstrationSurvivesAKillAfterEveryStep(t *testing.T) {
	var out bytes.Buffer
	kills := 0
	err := demo.Play(t.Context(), demo.Options{Bin: stage.Programs(), Out: &out, After: func(ctx context.Context, s *stage.Stage, step int) error {
		if step < 2 {
			return nil // there is no agent yet
		}
		kills++
		return killAndStart(ctx, s, step)
	}})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if kills != demo.Steps()-1 {
		t.Errorf("%d kills in %d steps", kills, demo.Steps())
	}
	for _, want := range []string{" 0 failed", "label-invalid", "host-taken", "container-not-listening", "is admitted", "ended after"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the play does not show %q:\n%s", want, out.String())
		}
	}
}

func killAndStart(ctx context.Context, s *stage.Stage, step int) error {
	hosts := demo.Hosts()
	if step < 3 {
		hosts = nil
	}
	nginx := s.NginxPID()
	s.KillAgent()
	if err := allServed(ctx, s, hosts); err != nil {
		return fmt.Errorf("without an agent: %w", err)
	}
	if err := s.StartAgent(); err != nil {
		return err
	}
	err := stage.Until(ctx, 15*time.Second, "the new agent says that it holds the address and nginx", func() error {
		if err := allServed(ctx, s, hosts); err != nil {
			return err
		}
		out, code, err := s.CLI(ctx, "status")
		if err == nil && (code != 0 || !strings.Contains(out, "is held here") || !strings.Contains(out, "serves generation")) {
			err = errors.New(out)
		}
		return err
	})
	// In step 2 the kill may come before nginx has written its process id.
	if now := s.NginxPID(); err == nil && now != nginx && step > 2 {
		err = fmt.Errorf("nginx was process %d and is %d", nginx, now)
	}
	return err
}

func allServed(ctx context.Context, s *stage.Stage, hosts []string) error {
	for _, host := range hosts {
		if code, body, err := s.Get(ctx, host); err != nil || code != 200 {
			return fmt.Errorf("%s answers %d %q, %v", host, code, body, err)
		}
	}
	return nil
}
