// Package store keeps the certificates that must outlive the instance, their keys, the accounts and
// the ledgers: in a bucket of S3, or in a directory. An object changes by compare-and-swap alone.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// patience bounds each operation, whatever hangs.
const patience = 15 * time.Second

var (
	kindForm = pattern.Of(32, `[a-z]+`)
	ownForm  = pattern.Of(200, `[A-Za-z0-9_-][A-Za-z0-9._-]*`)
)

// isName reports whether a text is the name of an object, KIND/NAME. What else is in a bucket or a directory is none of ours.
func isName(s string) bool {
	kind, name, _ := strings.Cut(s, "/")
	return kindForm.MatchString(kind) && ownForm.MatchString(name)
}

// Options say where the store is.
type Options struct {
	// Setting is certs.store: s3://BUCKET/PREFIX, or the absolute path of a directory, which is made
	// when something is written.
	Setting string
	// KMSKey encrypts what is written to S3; empty is the bucket's own encryption.
	KMSKey string
	// S3 is for a bucket, which may be in any Region. Region is the one to look in first, which spares a way
	// to another one; nil is us-east-1.
	S3     Client
	Region func(context.Context) (string, error)
}

// Store is one. Its methods may be called from any goroutine. Their errors are *certs.StoreError where
// somebody can do something about them.
type Store struct{ in backend }

type backend interface {
	list(ctx context.Context, prefix string) (map[string]string, error)
	get(ctx context.Context, name string) (body []byte, version string, err error)
	put(ctx context.Context, name string, body []byte, version string) (string, error)
}

// Open returns the store of a setting, whose form package config has checked. It asks nothing yet.
func Open(o Options) *Store {
	if at, isS3 := strings.CutPrefix(o.Setting, "s3://"); isS3 {
		return &Store{newBucket(at, o)}
	}
	return &Store{newDirectory(o.Setting)}
}

// List returns the versions of all objects whose names begin with prefix. More than certs.MaxObjects
// are an error.
func (s *Store) List(ctx context.Context, prefix string) (map[string]string, error) {
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	return s.in.list(ctx, prefix)
}

// Get returns an object and its version. The error wraps certs.ErrNotFound where there is none, and
// certs.ErrUnusable, with the version, where it cannot be one.
func (s *Store) Get(ctx context.Context, name string) (body []byte, version string, err error) {
	if !isName(name) {
		return nil, "", fmt.Errorf("%.200q is no name of an object", name)
	}
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	return s.in.get(ctx, name)
}

// Put writes an object if its version is still the given one, "" for one that is not there yet, and
// returns the new version. The error wraps certs.ErrConflict where another writer was first. Every
// body has to differ from all others: so a write is recognised whose answer was lost. After another error
// it may have been written or not.
func (s *Store) Put(ctx context.Context, name string, body []byte, version string) (string, error) {
	if !isName(name) || len(body) > certs.MaxObject {
		return "", fmt.Errorf("%.200q is no name of an object, or its %d bytes are more than %d", name, len(body), certs.MaxObject)
	}
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	return s.in.put(ctx, name, body, version)
}

// Check writes an object of its own, and reports whether the store keeps to the conditions of writes:
// some that speak S3's protocol do not know them, and would lose certificates.
func (s *Store) Check(ctx context.Context) error {
	const name = "check/nagaya.json"
	body := func() []byte { return fmt.Appendf(nil, "{\"mark\": %q}\n", rand.Text()) }
	for range 3 {
		_, old, err := s.Get(ctx, name)
		if err != nil && !errors.Is(err, certs.ErrNotFound) && !errors.Is(err, certs.ErrUnusable) {
			return err
		}
		_, err = s.Put(ctx, name, body(), old)
		if errors.Is(err, certs.ErrConflict) {
			continue // another instance checks
		}
		if err != nil {
			return err
		}
		for _, stale := range []string{"", old} {
			if _, err = s.Put(ctx, name, body(), stale); err == nil {
				return &certs.StoreError{Text: "the store writes over what another has written", Remedy: "keep certificates in a store that knows If-None-Match and If-Match, as S3 does", Err: errors.New("a condition was ignored")}
			}
			if !errors.Is(err, certs.ErrConflict) {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s: %w, three times", name, certs.ErrConflict)
}
