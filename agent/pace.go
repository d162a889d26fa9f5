package agent

import (
	"sync/atomic"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Pauses between two reloads of nginx when one change follows another. A reload of
// a hundred sites costs about 0.2 s of processor time: harmless once, and more than
// a t4g.nano earns if a container that crashes causes one every second.
const (
	reloadEvery       = time.Second
	reloadEveryFrugal = 5 * time.Second
)

// pace says how soon nginx may be reloaded again; it is frugal while the balance is
// known to be less than an hour's earnings.
type pace struct{ frugal atomic.Bool }

// credit is told every report of the credits.
func (p *pace) credit(r credit.Report) {
	p.frugal.Store(r.Burstable && r.Known && r.Balance < r.EarnPerHour)
}

// every may be called from any goroutine.
func (p *pace) every() time.Duration {
	if p.frugal.Load() {
		return reloadEveryFrugal
	}
	return reloadEvery
}
