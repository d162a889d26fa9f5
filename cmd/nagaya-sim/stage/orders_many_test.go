package stage

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

var newHosts = flag.Int("hosts", 40, "how many hosts are new at once; 200 take three minutes")

// Hosts that are new at once all get HTTPS, and nginx is reloaded ten times at most for them, that of
// their container included.
func TestManyHostsAtOnce(t *testing.T) {
	s, ca := orderingStage(t, testenv.PebbleOptions{})
	reloads := 0
	must(t, Until(t.Context(), 20*time.Second, "nginx runs", func() error {
		st, err := s.status(t.Context())
		if err == nil && (st.Nginx.Generation == "" || !st.Orders.StoreRead) {
			err = errors.New("no generation is live, or the store was not read")
		}
		reloads = st.Nginx.Reloads
		return err
	}))
	var hosts []string
	for i := range *newHosts {
		hosts = append(hosts, fmt.Sprintf("h%03d.test", i))
	}
	began := time.Now()
	_, err := s.Run(t.Context(), service("alpha", "1", strings.Join(hosts, ",")))
	must(t, err)
	must(t, Until(t.Context(), 30*time.Minute, "all have HTTPS", func() error {
		st, err := s.status(t.Context())
		if err != nil {
			return err
		}
		if n := st.Orders.Orders[certs.Issued]; n < uint64(*newHosts) || !st.Nginx.Settled {
			return fmt.Errorf("%d of %d are issued, problems %+v", n, *newHosts, st.Problems)
		}
		for _, host := range []string{hosts[0], hosts[len(hosts)/2], hosts[len(hosts)-1]} {
			if _, err := s.served(host, ca.Issuer); err != nil {
				return err
			}
		}
		return nil
	}))
	st, err := s.status(t.Context())
	must(t, err)
	for _, site := range st.Routes.Sites {
		if !site.Valid {
			t.Errorf("%s has no HTTPS", site.Host)
		}
	}
	n := st.Nginx.Reloads - reloads
	t.Logf("%d hosts have HTTPS after %s and %d reloads", *newHosts, time.Since(began).Round(time.Second), n)
	if made := st.Orders.Orders[certs.Issued]; n > 10 || made != uint64(*newHosts) {
		t.Errorf("%d reloads and %d orders, want at most 10 and %d", n, made, *newHosts)
	}
}
