package order

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// tokenForm is base64url (RFC 8555, section 8.3), and answerForm two of it (section 8.1).
var (
	tokenForm  = pattern.Of(200, `[A-Za-z0-9_-]+`)
	answerForm = pattern.Of(401, `[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)
)

// answers are the files from which nginx answers HTTP-01 challenges, by the id of the order.
type answers struct {
	dir string
	mu  sync.Mutex
	ids map[string]string // by token
}

// challengePath is where the files are below the directory of challenges, as in their URLs.
const challengePath = ".well-known/acme-challenge"

// set publishes the answers of an order, and removes those that are no longer among them.
func (a *answers) set(id string, all []certs.Challenge) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var wrong error
	wanted := map[string]string{}
	for _, c := range all {
		if c.Type != certs.HTTP01 {
			continue
		}
		if !tokenForm.MatchString(c.Token) || !answerForm.MatchString(c.Answer) {
			wrong = fmt.Errorf("the challenge for %q has no token or answer as RFC 8555 wants it", c.Name)
			continue
		}
		wanted[c.Token] = c.Answer
	}
	for token, of := range a.ids {
		if _, ok := wanted[token]; of == id && !ok {
			_ = os.Remove(filepath.Join(a.dir, challengePath, token))
			delete(a.ids, token)
		}
	}
	for token, answer := range wanted {
		if a.ids[token] == id {
			continue
		}
		if err := a.write(token, answer); err != nil {
			wrong = err
			continue
		}
		a.ids[token] = id
	}
	return wrong
}

// write makes one file, which nginx may read whoever it runs as.
func (a *answers) write(token, answer string) error {
	dir := filepath.Join(a.dir, challengePath)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, token), []byte(answer), 0o644)
}

// only removes the answers of all other orders, and files that are of none.
func (a *answers) only(wanted func(id string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(a.dir, challengePath))
	if err != nil {
		return
	}
	for _, e := range entries {
		if id, ok := a.ids[e.Name()]; !ok || !wanted(id) {
			_ = os.Remove(filepath.Join(a.dir, challengePath, e.Name()))
			delete(a.ids, e.Name())
		}
	}
}

// eachRecord does something with the TXT record of every challenge by DNS, a few at once.
func eachRecord(ctx context.Context, all []certs.Challenge, do func(ctx context.Context, record, value string) error) error {
	return each(all, func(c certs.Challenge) error {
		if c.Type != certs.DNS01 {
			return nil
		}
		if err := do(ctx, c.Record, c.Value); err != nil {
			return fmt.Errorf("TXT record %s: %w", c.Record, err)
		}
		return nil
	})
}

// atOnce bounds what is done at once: orders, reads of the store, changes of records.
const atOnce = 8

// each does something with all elements, atOnce at a time, and returns when all is done, with all errors.
func each[T any](all []T, do func(T) error) error {
	var wg sync.WaitGroup
	free, wrong := make(chan struct{}, atOnce), make([]error, len(all))
	for i, v := range all {
		free <- struct{}{}
		wg.Go(func() { defer func() { <-free }(); wrong[i] = do(v) })
	}
	wg.Wait()
	return errors.Join(wrong...)
}
