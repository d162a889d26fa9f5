package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/lock"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// directory is a store in a file system, which may be shared, as EFS is: a file is an object, and its
// version the hash of its content. It works with what NFS promises: a new file is a hard link, which
// cannot replace one, and an old one is replaced under a lock that the kernel releases with its process.
type directory struct {
	root string
	// busy has room for one operation. A file system that hangs keeps it, and no second one then hangs.
	busy chan struct{}
}

func newDirectory(root string) *directory {
	return &directory{filepath.Clean(root), make(chan struct{}, 1)}
}

const (
	lockName = ".nagaya.lock"
	lockWait = 20 * time.Millisecond // between two tries to take the lock
)

// within does an operation, and does not wait for it longer than ctx.
func within[T any](ctx context.Context, d *directory, do func() (T, error)) (v T, err error) {
	type outcome struct {
		v   T
		err error
	}
	late := d.wrong("waiting for", context.DeadlineExceeded)
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return v, late
	}
	out := make(chan outcome, 1)
	go func() {
		defer func() { <-d.busy }()
		v, err := do()
		out <- outcome{v, err}
	}()
	select {
	case o := <-out:
		return o.v, o.err
	case <-ctx.Done():
		return v, late
	}
}

func (d *directory) wrong(what string, err error) error {
	remedy := "let the agent's user write to it"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		remedy = "look whether its file system answers, or who holds " + lockName + " in it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = "make room on its file system"
	case errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.EIO):
		remedy = "mount its file system again"
	}
	return &certs.StoreError{Text: fmt.Sprintf("%s the store in %s: %.200s", what, d.root, err.Error()), Remedy: remedy, Err: err}
}

func (d *directory) list(ctx context.Context, prefix string) (map[string]string, error) {
	return within(ctx, d, func() (map[string]string, error) { return d.versions(ctx, prefix) })
}

func (d *directory) get(ctx context.Context, name string) ([]byte, string, error) {
	o, err := within(ctx, d, func() (object, error) { return d.read(name) })
	return o.body, o.version, err
}

func (d *directory) put(ctx context.Context, name string, body []byte, version string) (string, error) {
	return within(ctx, d, func() (string, error) { return d.swap(ctx, name, body, version) })
}

// versions reads every file: nothing else tells a change on every file system.
func (d *directory) versions(ctx context.Context, prefix string) (map[string]string, error) {
	all := map[string]string{}
	kinds, err := names(d.root)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, d.wrong("reading", err)
	}
	for _, kind := range kinds {
		if !isName(kind + "/x") {
			continue
		}
		files, err := names(filepath.Join(d.root, kind))
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, d.wrong("reading", err)
		}
		for _, file := range files {
			name := kind + "/" + file
			if !isName(name) || !strings.HasPrefix(name, prefix) {
				continue
			}
			if o, _ := d.read(name); o.version != "" {
				all[name] = o.version
			}
			if ctx.Err() != nil {
				return nil, d.wrong("reading", ctx.Err())
			}
		}
		if len(all) > certs.MaxObjects {
			return nil, d.wrong("reading", errors.New("it has more than 10000 objects"))
		}
	}
	return all, nil
}

// names are those in a directory, which may be anybody's: at most twice as many as there may be objects.
func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Readdirnames(2*certs.MaxObjects + 1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if len(all) > 2*certs.MaxObjects {
		err = fmt.Errorf("%s has more than %d files", dir, 2*certs.MaxObjects)
	}
	return all, err
}

// object is a file with its version.
type object struct {
	body    []byte
	version string
}

// read returns a file. One that cannot be read has a version too, that of its inode:
// it is there.
func (d *directory) read(name string) (o object, err error) {
	path := filepath.Join(d.root, name)
	body, err := readfile.Regular(path, certs.MaxObject)
	if err == nil {
		return object{body, versionOf(body)}, nil
	}
	info, there := os.Lstat(path)
	if errors.Is(there, fs.ErrNotExist) {
		return o, fmt.Errorf("%s in %s: %w", name, d.root, certs.ErrNotFound)
	}
	if there == nil && info.IsDir() {
		return o, fmt.Errorf("%s in %s: %w: it is a directory", name, d.root, certs.ErrUnusable)
	}
	if there == nil {
		o.version = fmt.Sprintf("unread-%d-%d", info.Size(), info.ModTime().UnixNano())
	}
	if _, unread := errors.AsType[*fs.PathError](err); !unread { // what it is, is wrong
		return o, fmt.Errorf("%s in %s: %w: %w", name, d.root, certs.ErrUnusable, err)
	}
	return o, d.wrong("reading "+name+" of", err)
}

func versionOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// swap replaces a file if it is the one of that version, and returns the new version.
func (d *directory) swap(ctx context.Context, name string, body []byte, version string) (string, error) {
	path := filepath.Join(d.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", d.wrong("writing to", err)
	}
	held, err := d.lock(ctx)
	if err != nil {
		return "", d.wrong("locking", err)
	}
	defer held.Release()
	now, err := d.read(name)
	if now.version == "" && err != nil && !errors.Is(err, certs.ErrNotFound) {
		return "", err
	}
	if err = fs.ErrExist; now.version == version {
		err = atomicfile.WithReserve(d.root, func() error { return write(path, body, version == "") })
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return "", fmt.Errorf("%s in %s: %w", name, d.root, certs.ErrConflict)
	case err != nil:
		return "", d.wrong("writing "+name+" to", err)
	}
	return versionOf(body), nil
}

// lock takes the lock of the whole store, which is held for the time of one write.
func (d *directory) lock(ctx context.Context) (*lock.Lock, error) {
	for {
		l, err := lock.Take(filepath.Join(d.root, lockName))
		if _, held := errors.AsType[*lock.HeldError](err); !held {
			return l, err
		}
		if !backoff.Sleep(ctx, lockWait) {
			return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// write puts a file there as a whole. What a killed writer left has the same name, so there is never more
// than one. Whether a file is there, a client of NFS may remember wrongly, but its server makes no hard link
// over one: fs.ErrExist.
func write(path string, body []byte, isNew bool) (err error) {
	dir, base := filepath.Split(path)
	temp := filepath.Join(dir, "."+base+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if isNew {
		err = os.Link(temp, path)
	} else {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return err
	}
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	return at.Sync()
}
