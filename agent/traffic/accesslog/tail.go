package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	// longest is how long a line may be that is read, in bytes; one of nagaya's own formats has half of that.
	longest = 8 << 10
	// rotated is how long a file is read after another took its place: nginx's workers write to it until
	// they have opened the other, and those from before a reload may do so until they end.
	rotated = 5 * time.Minute
	// mostBehind is how much may have been added since the last look, in bytes; of more, nothing is read. No nginx
	// writes that much in ten seconds, but a file may be made longer without being written.
	mostBehind = 1 << 30
)

// tail reads what is added to a log.
type tail struct {
	path string
	// now is the file that is at path, and old the one that was; both may be nil.
	now, old *file
	oldUntil time.Time
	// looked is true once it is known what was there at the beginning.
	looked bool
}

// file is an open log, which has been read up to at. While inside is true, a line is passed over whose
// begin is not known.
type file struct {
	*os.File
	id     os.FileInfo
	at     int64
	inside bool
}

// to changes the path. What is there is read from its end: it may have any size, and is of the past.
func (t *tail) to(path string) {
	if t.path != path {
		t.close()
		*t = tail{path: path}
	}
}

func (t *tail) close() {
	for _, f := range []*file{t.now, t.old} {
		if f != nil {
			f.Close()
		}
	}
	t.now, t.old = nil, nil
}

// read gives the lines that were added to do, with their end cut off, and about limit bytes of them. more is
// true where there may be others.
func (t *tail) read(buf []byte, limit int, now time.Time, do func(line []byte)) (more bool, err error) {
	if t.path == "" {
		return false, nil
	}
	if t.old != nil {
		_, err := t.old.read(buf, limit, do)
		if err != nil || now.After(t.oldUntil) {
			t.old.Close()
			t.old = nil
		}
	}
	for range 2 { // what the first has after another has taken its place, and that one
		if t.now != nil {
			if more, err = t.now.read(buf, limit, do); more || err != nil {
				return more, err
			}
		}
		changed, err := t.follow(now)
		if err != nil || !changed {
			return false, err
		}
	}
	return false, nil
}

// follow opens the file that is at the path now, if it is another.
func (t *tail) follow(now time.Time) (changed bool, err error) {
	info, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.looked = true
		return false, nil // nginx makes it, or has not opened it again
	case err != nil:
		return false, err
	case t.now != nil && os.SameFile(t.now.id, info):
		return false, nil
	case t.now != nil && t.old != nil && os.SameFile(t.old.id, info): // it was put back, and has been read already
		t.now, t.old, t.oldUntil = t.old, t.now, now.Add(rotated)
		return true, nil
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is no regular file", t.path)
	}
	f, err := os.OpenFile(t.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(err, f.Close())
	}
	next := &file{File: f, id: info}
	if !t.looked && info.Size() > 0 { // its last line may be written by half
		next.at, next.inside = info.Size()-1, true
	}
	t.looked = true
	if t.old != nil {
		t.old.Close()
	}
	t.old, t.oldUntil, t.now = t.now, now.Add(rotated), next
	return true, nil
}

// read is that of a tail, for one file.
func (f *file) read(buf []byte, limit int, do func(line []byte)) (more bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() < f.at { // it was truncated
		f.at, f.inside = 0, false
	}
	if info.Size()-f.at > mostBehind {
		f.at, f.inside = info.Size()-1, true
	}
	began := time.Now()
	for done := 0; f.at < info.Size(); {
		if done >= limit || time.Since(began) > patience {
			return true, nil
		}
		n, err := f.ReadAt(buf, f.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		whole := f.lines(buf[:n], do)
		if whole == 0 { // the last line is not whole yet, or the file has become shorter
			return false, nil
		}
		f.at += int64(whole)
		done += whole
	}
	return false, nil
}

// lines gives the lines of a piece to do, and returns how much of it has been read: all but a last line
// that is not whole, unless that is too long.
func (f *file) lines(piece []byte, do func(line []byte)) (read int) {
	for {
		n := bytes.IndexByte(piece[read:], '\n')
		if n < 0 {
			break
		}
		line := piece[read : read+n]
		read += n + 1
		if !f.inside && n <= longest {
			do(line)
		}
		f.inside = false
	}
	if len(piece)-read > longest || f.inside {
		f.inside = true
		read = len(piece)
	}
	return read
}
