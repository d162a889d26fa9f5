package claim

import (
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// words are those of the documents for what the tests' world has.
var words = []string{"203.0.113.7", "203.0.113.10", "eipalloc-1", "eipalloc-0123456789abcdef0", "i-other", "i-0fedcba9876543210"}

func TestDocsShowAnAddressThatIsLost(t *testing.T) {
	j := doctest.NewJournal(t)
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		b := start(t, w, Options{Policy: address.Takeover, Log: j.Log})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		w.machines["i-other"].launched = time.Now() // a newer instance took it
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b.in.Put(b.now(true)) // metadata shows no public address any more
		b.after(time.Minute)
	})
	doctest.Logged(t, "address-lost", j.Await("address-lost"), words...)
	doctest.Logged(t, "address-decided", j.Await("address-decided", "decision=stay"), words...)
}

func TestDocsShowAnAssociationThatIsDenied(t *testing.T) {
	s, j := newScene(t), doctest.NewJournal(t)
	s.log = j.Log
	_, err := s.cloud.AddFault(simaws.Fault{Service: "ec2", Action: "AssociateAddress", Code: "UnauthorizedOperation", Message: "You are not authorized to perform this operation."})
	s.must(err)
	s.start(address.Wait)
	doctest.Logged(t, "address-unsettled", j.Await("address-unsettled"))
}
