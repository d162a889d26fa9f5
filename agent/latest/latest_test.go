package latest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func TestTheNewestWins(t *testing.T) {
	s := New[int]()
	for i := range 5 {
		s.Put(i) // nobody reads, and none of these blocks
	}
	if got := <-s.C(); got != 4 {
		t.Errorf("read %d, want the newest", got)
	}
	select {
	case got := <-s.C():
		t.Errorf("read %d a second time", got)
	default:
	}
	s.Put(5)
	if got := <-s.C(); got != 5 {
		t.Errorf("read %d after an empty slot", got)
	}
}

func TestAReaderThatWaitsIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New[string]()
		got := make(chan string, 1)
		go func() { got <- <-s.C() }()
		synctest.Wait() // the reader waits now
		s.Put("news")
		synctest.Wait()
		if len(got) != 1 || <-got != "news" {
			t.Error("the reader was not woken")
		}
	})
}

// Whatever many writers and one reader do at once: no writer is held up, what is
// read of one writer never goes backwards, and the last word is not lost.
func TestManyWritersAndOneReader(t *testing.T) {
	const writers, puts = 8, 2000
	type word struct{ writer, n int }
	s := New[word]()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := range puts {
				s.Put(word{w, n + 1})
			}
		})
	}
	done := make(chan struct{})
	var last [writers]int
	take := func(v word) {
		if v.n <= last[v.writer] {
			t.Errorf("writer %d: read %d after %d", v.writer, v.n, last[v.writer])
		}
		last[v.writer] = v.n
	}
	go func() { writing.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case v := <-s.C():
			take(v)
		case <-done:
			reading = false
		}
	}
	select {
	case v := <-s.C():
		take(v)
	default:
	}
	if !slices.Contains(last[:], puts) {
		t.Errorf("the last word of all was lost; read were %v", last)
	}
}

func TestDistinct(t *testing.T) {
	var got []int
	put := Distinct(func(v []int) { got = append(got, len(v)) })
	for _, v := range [][]int{nil, nil, {1}, {1}, {1, 2}, nil} {
		put(v)
	}
	if want := []int{0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTeeGivesInOrder(t *testing.T) {
	var got []string
	put := func(name string) func(int) {
		return func(v int) { got = append(got, name+string(rune('0'+v))) }
	}
	tee := Tee(put("a"), put("b"), put("c"))
	tee(1)
	tee(2)
	if want := []string{"a1", "b1", "c1", "a2", "b2", "c2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	Tee[int]()(3) // nobody listens
}

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stage := make(chan Question[int])
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan error, 1)
		ask := func() { answered <- Ask(ctx, stage, 7) }
		go ask()
		got := <-stage
		if got.Value != 7 {
			t.Errorf("the stage got %d", got.Value)
		}
		no := errors.New("no")
		got.Reply <- no
		if err := <-answered; err != no {
			t.Errorf("reply %v", err)
		}
		go ask()
		<-stage // and it does not reply
		cancel()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("without a reply: %v", err)
		}
		if err := Ask(ctx, stage, 7); !errors.Is(err, context.Canceled) {
			t.Errorf("without a stage: %v", err)
		}
	})
}
