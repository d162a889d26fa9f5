// Package latest is the pipe between the stages of the program: a slot that
// holds one value. Putting a value replaces the one that nobody has read yet,
// so a slow reader coalesces by itself and never holds up the writer.
package latest

import (
	"context"
	"reflect"
	"slices"
	"sync"
)

// Slot holds at most one unread value. Many may Put, one reads.
// The zero Slot is not usable; call New.
type Slot[T any] struct {
	mu sync.Mutex // serialises writers, so that "newest" is well defined
	ch chan T
}

// New returns an empty slot.
func New[T any]() *Slot[T] {
	return &Slot[T]{ch: make(chan T, 1)}
}

// Put stores v, replacing an unread value. It never blocks.
func (s *Slot[T]) Put(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ch:
	default:
	}
	s.ch <- v
}

// C returns the channel to receive from. It is never closed: a reader ends by
// its own context.
func (s *Slot[T]) C() <-chan T { return s.ch }

// Distinct returns a function that gives a value on only if it differs from the last one.
// One goroutine calls it.
func Distinct[T any](put func(T)) func(T) {
	var last T
	given := false
	return func(v T) {
		if !given || !reflect.DeepEqual(v, last) {
			last, given = v, true
			put(v)
		}
	}
}

// Question is what a stage is asked to do.
type Question[T any] struct {
	Value T
	// Reply is sent the error, or nil, once; it has room for it.
	Reply chan error
}

// Ask has a stage act on a value, and waits for its reply.
func Ask[T any](ctx context.Context, stage chan<- Question[T], v T) error {
	q := Question[T]{v, make(chan error, 1)}
	select {
	case stage <- q:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-q.Reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tee returns a function that gives every value to each of the given ones in
// order. It joins one source to several slots.
func Tee[T any](puts ...func(T)) func(T) {
	return func(v T) {
		for _, put := range puts {
			put(v)
		}
	}
}

// Join returns a function for each of n sources. Whenever one of them gives a value, put gets the
// newest of all, the zero value for a source that has given none.
func Join[T any](n int, put func([]T)) []func(T) {
	var mu sync.Mutex
	values := make([]T, n)
	puts := make([]func(T), n)
	for i := range puts {
		puts[i] = func(v T) {
			mu.Lock()
			defer mu.Unlock()
			values[i] = v
			put(slices.Clone(values))
		}
	}
	return puts
}
