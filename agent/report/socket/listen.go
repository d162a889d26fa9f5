// Package socket serves the status of the agent and takes requests of operators
// and batches, as HTTP on a unix socket; it also holds the client that the
// command line uses.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
)

// ErrInUse is the error of a socket on which another agent answers.
var ErrInUse = errors.New("another agent answers")

// mode admits root and the socket's group, which may see the status and start batches.
const mode = 0o660

// Listen makes the socket at path. A socket that a dead agent left is replaced;
// one that answers, or a file that is no socket, is an error.
func Listen(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("making the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("making the socket: %s exists and is not a socket; move it away", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("making the socket: %w on %s; stop it, or set run-dir", ErrInUse, path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the socket of a dead agent: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("making the socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("making the socket: %w", err), l.Close())
	}
	return l, nil
}

// ServeAt answers on l until ctx ends, or until nothing is at its path any more, where nobody could connect. A socket of
// systemd's, which has it itself, is served without a path.
func ServeAt(ctx context.Context, l net.Listener, path string, a Agent) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if path != "" {
		go func() {
			if gone(ctx, path) {
				stop()
			}
		}()
	}
	return Serve(ctx, l, a)
}

// gone returns true when nothing is at path any more, and false when ctx has ended.
func gone(ctx context.Context, path string) bool {
	const poll, settle = time.Minute, 100 * time.Millisecond
	w, _ := dirwatch.New() // without it there is the poll
	defer w.Close()
	for {
		_, _ = w.Only(filepath.Dir(path))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return true
		}
		if !w.Wait(ctx, poll, settle) {
			return false
		}
	}
}
