package loop

import (
	"context"
	"errors"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// answerTimeout bounds how long the gate may take to answer. It takes milliseconds.
const answerTimeout = 10 * time.Second

var errNoAnswer = errors.New("the gate does not answer")

// setDecision stores the decision and wakes the jobs that wait for one.
func (l *Loop) setDecision(d gate.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decision = d
	close(l.decided)
	l.decided = make(chan struct{})
}

// lastDecision returns the newest decision, and a channel that is closed at the next one.
func (l *Loop) lastDecision() (gate.Decision, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.decision, l.decided
}

// Job takes what a job says and returns its entry in the queue. For a job that waits, or that
// runs and says how it is braked, it returns when that has changed or ctx ends,
// whichever is first. An error means that the job is not valid or that the loop does not run.
func (l *Loop) Job(ctx context.Context, asked gate.Asked) (gate.Entry, error) {
	if err := asked.Validate(); err != nil {
		return gate.Entry{}, err
	}
	if err := l.ask(ctx, asked); err != nil {
		return gate.Entry{}, err
	}
	for {
		decision, next := l.lastDecision()
		e, known := decision.Job(asked.ID)
		switch {
		case !known && asked.State == gate.Waiting:
			// An answer at once would be followed by the same question at once, without end.
			<-ctx.Done()
			return gate.Entry{Job: asked.Job, Phase: gate.Waiting, Reason: "the gate took no notice of it: too many jobs wait"}, nil
		case !known:
			return gate.Entry{Job: asked.Job, Phase: asked.State}, nil // it is over
		case changed(asked, e) || ctx.Err() != nil:
			return e, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// changed reports whether a job has to hear of its entry at once.
func changed(asked gate.Asked, e gate.Entry) bool {
	if e.Phase != asked.State {
		return true
	}
	return e.Phase != gate.Waiting && (e.Phase != gate.Running || e.Slow != asked.Slow || e.Quota != asked.Quota)
}

// ask gives the gate what a job says and waits until it was decided on.
func (l *Loop) ask(ctx context.Context, asked gate.Asked) error {
	// The end of ctx bounds the wait for a change, not this.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	q := question{asked: asked, answered: make(chan struct{})}
	select {
	case l.questions <- q:
	case <-ctx.Done():
		return errNoAnswer
	}
	select {
	case <-q.answered:
		return nil
	case <-ctx.Done():
		return errNoAnswer
	}
}
