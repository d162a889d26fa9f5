package stage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// ImportTar makes an image of a tar of a file system.
func ImportTar(ctx context.Context, engine *client.Client, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := engine.ImageImport(ctx, client.ImageImportSource{Source: f, SourceName: "-"}, name, client.ImageImportOptions{})
	if err != nil {
		return fmt.Errorf("importing %s: %w", file, err)
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Exec runs a command in a container and returns what it said and its exit code.
func Exec(ctx context.Context, engine *client.Client, container string, args ...string) (said string, code int, err error) {
	made, err := engine.ExecCreate(ctx, container, client.ExecCreateOptions{AttachStdout: true, AttachStderr: true, Cmd: args})
	if err != nil {
		return "", 0, err
	}
	stream, err := engine.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", 0, err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, stream.Close)
	defer stop()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil {
		return out.String(), 0, err
	}
	got, err := engine.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	return out.String(), got.ExitCode, err
}
