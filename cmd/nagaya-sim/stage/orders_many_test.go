package stage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// Of 200 hosts that are new at once all get HTTPS, and nginx is reloaded ten times at most for them, that of
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
	for i := range 200 {
		hosts = append(hosts, fmt.Sprintf("h%03d.test", i))
	}
	began := time.Now()
	_, err := s.Run(t.Context(), service("alpha", "1", strings.Join(hosts, ",")))
	must(t, err)
	must(t, Until(t.Context(), 6*time.Minute, "all have HTTPS", func() error {
		st, err := s.status(t.Context())
		if err != nil {
			return err
		}
		if n := st.Orders.Orders[certs.Issued]; n < 200 || !st.Nginx.Settled {
			return fmt.Errorf("%d of 200 are issued, problems %+v", n, st.Problems)
		}
		for _, host := range []string{hosts[0], hosts[99], hosts[199]} {
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
	t.Logf("200 hosts have HTTPS after %s and %d reloads", time.Since(began).Round(time.Second), n)
	if made := st.Orders.Orders[certs.Issued]; n > 10 || made != 200 {
		t.Errorf("%d reloads and %d orders, want at most 10 and 200", n, made)
	}
}
