package stage

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// The CA wants a certificate renewed at once. It is asked every 6 hours, as Pebble wants it; so the test has the
// store forget, while no agent runs, that it was.
func TestRenewedWhenTheCASays(t *testing.T) {
	s, ca := orderingStage(t, testenv.PebbleOptions{})
	run(t, s, service("beta", "1", "b.test"))
	first := issued(t, s, ca, "b.test", "")
	settled(t, s)
	kept, err := s.trusting(ca.Issuer)
	must(t, err)
	fresh, err := s.trusting(ca.Issuer)
	must(t, err)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	load := StartVisits(t.Context(), 100, func(n int) *http.Client {
		if n%2 == 1 {
			return fresh
		}
		return kept
	}, s.URL("b.test", "/", true))
	ca.SetRenewal(t, first, time.Now().Add(-time.Hour), time.Now().Add(time.Second))
	s.KillAgent()
	forgetQuestions(t, s)
	must(t, s.StartAgent())
	issued(t, s, ca, "b.test", first)
	settled(t, s)
	if r := load.Stop(); r.Failed > 0 || r.Requests == 0 {
		t.Errorf("%d of %d requests failed, the first with %q", r.Failed, r.Requests, r.First)
	}
}

// forgetQuestions takes what the CA was asked about renewals out of the ledgers in the store.
func forgetQuestions(t *testing.T, s *Stage) {
	t.Helper()
	const objects = "/buckets/nagaya-certs/objects"
	var all map[string]string
	must(t, s.Control(t.Context(), "GET", objects, nil, &all))
	n := 0
	for key, body := range all {
		if !strings.HasPrefix(key, "stage/budget/") {
			continue
		}
		var ledger map[string]any
		must(t, json.Unmarshal([]byte(body), &ledger))
		delete(ledger, "windows")
		delete(ledger, "last_ask")
		text, err := json.Marshal(ledger)
		must(t, err)
		must(t, s.Control(t.Context(), "PUT", objects+"/"+key, map[string]string{"body": string(text)}, nil))
		n++
	}
	if n != 1 {
		t.Fatalf("%d ledgers in %d objects, want 1", n, len(all))
	}
}

// issued waits until a host has a certificate that is not the given one (PEM), and returns it.
func issued(t *testing.T, s *Stage, ca *testenv.Pebble, host, not string) (text string) {
	t.Helper()
	until(t, host+" has a certificate of its own", func() error {
		c, err := s.served(host, ca.Issuer)
		if err != nil {
			return err
		}
		if text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})); text == not {
			return errNotYet
		}
		return nil
	})
	return text
}

// Apex and wildcard are proven by one record, whose values are those of two orders. The agent is killed while
// they are there; the next one goes on with both, and leaves no record.
func TestWildcardByRecords(t *testing.T) {
	var s *Stage
	names := testenv.ServeNames(t, func(name, kind string) (values []string) {
		if kind == "A" {
			return []string{"127.0.0.1"}
		}
		_ = s.Control(t.Context(), "GET", "/answers/"+name+"/"+kind, nil, &values) // what fails has no records
		return values
	})
	s, ca := orderingStage(t, testenv.PebbleOptions{Names: names}, "NAGAYA_CERTS_ACME_ZONES="+simaws.DefaultZoneName+"="+simaws.DefaultZone)
	records := func(want bool) {
		t.Helper()
		until(t, fmt.Sprintf("there are records: %v", want), func() error {
			var all []simaws.Record
			if err := s.Control(t.Context(), "GET", "/zones/"+simaws.DefaultZone+"/records", nil, &all); err != nil {
				return err
			}
			if len(all) > 0 != want {
				return fmt.Errorf("there are %+v", all)
			}
			return nil
		})
	}
	slow := func(d time.Duration) {
		t.Helper()
		must(t, s.Control(t.Context(), "PUT", "/conditions", simaws.Conditions{ZoneChangeTakes: simaws.Duration(d)}, nil))
	}
	slow(time.Hour)
	run(t, s, service("apex", "1", "example.com"))
	run(t, s, service("wild", "1", "*.example.com"))
	records(true)
	s.KillAgent()
	slow(0)
	must(t, s.StartAgent())
	issued(t, s, ca, "example.com", "")
	issued(t, s, ca, "any.example.com", "")
	records(false)
	if st, err := s.status(t.Context()); err != nil || len(st.Problems) > 0 {
		t.Error(errors.Join(err, fmt.Errorf("problems: %+v", st.Problems)))
	}
}
