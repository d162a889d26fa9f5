package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// file writes the decision as JSON. A reader sees the old file or the new one, never
// a part; after valid_until it must take the gate as closed, because the writer may have been killed.
type file struct{ path string }

func (f file) name() string         { return "file" }
func (f file) target() string       { return f.path }
func (f file) again() time.Duration { return 0 }
func (f file) every() bool          { return true }

func (f file) tell(_ context.Context, d gate.Decision) error {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the decision: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	// Everybody may read it: cron jobs and containers run as anyone.
	return atomicfile.Write(f.path, append(text, '\n'), 0o644)
}

func (f file) problem(err error) problem.Problem {
	return problem.Problem{
		Code: "gate-file-failed", Severity: problem.Error, Subject: "file " + f.path, File: f.path,
		Text: awserror.Sentence("the gate's file cannot be written", err),
		Hint: "make its directory writable for nagaya, with room left; readers take an old file as closed",
	}
}
