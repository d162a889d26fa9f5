package discover

import (
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

func TestDocsShowANotice(t *testing.T) {
	r, j := newRig(t), doctest.NewJournal(t)
	spot, err := r.cloud.AddInstance(simaws.InstanceSpec{LifeCycle: "spot"})
	r.must(err)
	r.must(r.cloud.SetNotices(spot, simaws.Notices{SpotAction: "terminate", SpotTime: started.Add(2 * time.Minute)}))
	r.o.IMDS, r.o.Log = r.client(spot, 5*time.Second), j.Log
	r.start()
	doctest.Logged(t, "notice-received", j.Await("notice-received"))
}
