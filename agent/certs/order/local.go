package order

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// The local copy is a file for each certificate, DIR/ID.pem: a line that says what it is, the chain, the key.
// Package files reads it, which passes over what is no PEM.

// idForm is that of certs.ID, which is the name of files and objects.
var idForm = pattern.Of(217, `[A-Za-z0-9][A-Za-z0-9._-]*\.[A-Z0-9]+`)

// held is a certificate as it is known here: its chain and key are in the file alone.
type held struct {
	certs.Held
	// version is that of the object in the store; empty where it is not there.
	version string
	// unwritten is the certificate while it is not in the file yet.
	unwritten *certs.Bundle
}

// about is the first line of a file, behind a word.
type about struct {
	certs.Bundle        // without chain and key
	Version      string `json:"version,omitempty"`
}

const firstWord = "nagaya "

// readLocal lists what is in a directory. What cannot be used is left out: the store may have it.
func readLocal(dir string) map[string]held {
	all := map[string]held{}
	entries, _ := os.ReadDir(dir) // there is none at the first start
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".pem")
		if !ok || !idForm.MatchString(id) {
			continue
		}
		b, version, err := readCopy(dir, id)
		if err != nil {
			continue
		}
		all[id] = held{b.Held, version, nil}
	}
	return all
}

// readCopy reads one whole.
func readCopy(dir, id string) (b certs.Bundle, version string, err error) {
	text, err := readfile.Regular(filepath.Join(dir, id+".pem"), certs.MaxObject)
	if err != nil {
		return b, "", err
	}
	line, pem, _ := bytes.Cut(text, []byte("\n"))
	line, ok := bytes.CutPrefix(line, []byte(firstWord))
	at := keyBegin.FindIndex(pem)
	var a about
	if !ok || at == nil || json.Unmarshal(line, &a) != nil || a.ID != id {
		return b, "", fmt.Errorf("%s.pem is not as it was written", id)
	}
	a.Chain, a.Key = string(pem[:at[0]]), string(pem[at[0]:])
	b, err = a.Checked()
	return b, a.Version, err
}

// keyBegin is where a key begins, of any kind.
var keyBegin = regexp.MustCompile(`(?m)^-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// writeCopy replaces a file as a whole.
func writeCopy(dir string, b certs.Bundle, version string) error {
	a := about{b, version}
	a.Chain, a.Key = "", ""
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := firstWord + string(line) + "\n" + strings.TrimSpace(b.Chain) + "\n" + b.Key
	return atomicfile.Write(filepath.Join(dir, b.ID+".pem"), []byte(text), 0o600)
}

// keep takes note of a certificate, and has its file written soon.
func (l *loop) keep(b certs.Bundle, version string) {
	l.store.known++
	b.Number = l.store.known
	l.held[b.ID] = held{b.Held, version, &b}
}

// whole is a certificate that is held, with its key.
func (l *loop) whole(id string) (certs.Bundle, error) {
	if b := l.held[id].unwritten; b != nil {
		return *b, nil
	}
	b, _, err := readCopy(l.Issued, id)
	return b, err
}

// Files are written together: each time nginx loads its configuration again. The first is written at
// once, and while more come, they wait ever longer.
const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

// copies is when files were and will be written.
type copies struct {
	last  time.Time
	pause time.Duration
	err   error // why the last could not be
}

// flush writes what is due, and returns when it has to be called again; zero for never.
func (l *loop) flush(now time.Time) (next time.Time) {
	var ids []string
	for id, h := range l.held {
		if h.unwritten != nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return time.Time{}
	}
	if due := l.copies.last.Add(l.copies.pause); now.Before(due) {
		return due
	}
	if now.Sub(l.copies.last) > 2*mostPause {
		l.copies.pause = 0
	}
	l.copies.last, l.copies.pause, l.copies.err = now, min(max(2*l.copies.pause, firstPause), mostPause), nil
	for _, id := range ids {
		h := l.held[id]
		if err := writeCopy(l.Issued, *h.unwritten, h.version); err != nil {
			l.copies.err = err
			next = now.Add(l.copies.pause)
			continue
		}
		h.unwritten = nil
		l.held[id] = h
	}
	return next
}

// tidy removes copies of certificates that have expired long ago and that nobody wants.
func (l *loop) tidy(now time.Time, wanted []string) {
	for id, h := range l.held {
		if now.Sub(h.NotAfter) > keepExpired && !slices.Contains(wanted, id) {
			_ = os.Remove(filepath.Join(l.Issued, id+".pem"))
			delete(l.held, id)
			l.store.expired[certName(id)] = h.NotAfter
		}
	}
}

// keepExpired is how long a copy is kept that has expired and that nobody wants.
const keepExpired = 30 * 24 * time.Hour
