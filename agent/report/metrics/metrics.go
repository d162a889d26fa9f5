// Package metrics serves the status as Prometheus metrics.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// mostConnections bounds the connections that are open at once: each takes some memory and a file. Others wait.
const mostConnections = 64

// Serve answers GET /metrics on l until ctx ends, and has rest answer everything else. The status is read once a
// scrape; without scrapes nothing is computed.
func Serve(ctx context.Context, l net.Listener, status func() report.Status, rest http.Handler) error {
	m := http.NewServeMux()
	m.Handle("GET /metrics", &page{status: status})
	m.Handle("/", rest)
	s := &http.Server{Handler: m, MaxHeaderBytes: 64 << 10, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(netutil.LimitListener(l, mostConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}

// page is what is scraped. One text is made at a time.
type page struct {
	mu     sync.Mutex
	status func() report.Status
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text := p.text() // a client may read slowly
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(text) // the client may have gone
}

func (p *page) text() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return collect(p.status())
}

// collect turns one status into metrics. What is not known is left out: a metric that is absent
// cannot be mistaken for 0.
func collect(s report.Status) []byte {
	e := emitter{map[string]bool{}, map[string]*family{}}
	e.machine(s)
	e.serving(s)
	e.traffic(s.Traffic)
	e.credits(s)
	e.problems(s)
	e.process()
	return e.text()
}

// emitter puts metrics. Names come from labels: no name may make a scrape fail.
type emitter struct {
	seen     map[string]bool // time series
	families map[string]*family
}

// put makes one metric of a number, of true and false, or of a time, which is left out while
// it is zero. pairs are labels with their values. Of two that would be the same time series
// the first counts.
func (e emitter) put(name, help string, value any, pairs ...string) {
	e.add("nagaya_"+name, help, value, pairs...)
}

func (e emitter) add(name, help string, value any, pairs ...string) {
	var v float64
	switch value := value.(type) {
	case int:
		v = float64(value)
	case uint64:
		v = float64(value)
	case float64:
		v = value
	case bool:
		if value {
			v = 1
		}
	case time.Time:
		if value.IsZero() {
			return
		}
		v = float64(value.UnixMilli()) / 1000
	}
	e.line(e.family(name, help), name, v, pairs)
}

// family returns that of a name.
func (e emitter) family(name, help string) *family {
	f := e.families[name]
	if f == nil {
		f = &family{help: help}
		e.families[name] = f
	}
	return f
}

// line adds a time series to a family.
func (e emitter) line(f *family, name string, v float64, pairs []string) {
	var labels []string
	for pair := range slices.Chunk(pairs, 2) {
		labels = append(labels, pair[0]+`="`+escapes.Replace(strings.ToValidUTF8(pair[1], "\uFFFD"))+`"`)
	}
	slices.Sort(labels)
	series := name
	if len(labels) > 0 {
		series += "{" + strings.Join(labels, ",") + "}"
	}
	if !e.seen[series] {
		e.seen[series] = true
		f.lines = append(f.lines, series+" "+strconv.FormatFloat(v, 'g', -1, 64)+"\n")
	}
}

func (e emitter) machine(s report.Status) {
	in := s.Identity.Instance
	e.put("info", "Always 1; the labels identify this agent.", 1, "version", s.Version, "instance_id", in.ID, "instance_type", in.Type, "region", in.Region, "zone", in.Zone, "cluster", s.Identity.ECS.Cluster)
	e.put("identity_known", "1 once instance metadata has answered.", in.Known)
	e.put("leaving", "1 while this instance leaves, as EC2 or the operator announced.", s.Identity.Leaving())
	for _, c := range s.Address.Claims {
		e.put("address_associations_total", "Associations of the claimed Elastic IP made by this agent.", c.Moves, "claim", c.Claim)
		if !c.Known {
			continue
		}
		ip, holder := c.Address.PublicIP.String(), c.Holder.InstanceID
		if holder == "" {
			holder = string(c.Holder.Kind)
		}
		e.put("address_held", "1 while this instance holds the claimed Elastic IP.", c.Held(), "address", ip)
		e.put("address_released", "1 while the operator releases the claimed Elastic IP.", c.Released, "address", ip)
		e.put("address_holder_info", "Always 1; the labels name the holder of the claimed Elastic IP.", 1, "address", ip, "holder", holder, "policy", string(c.Policy))
		e.put("address_holder_since_timestamp_seconds", "When this agent first saw the present holder.", c.Since, "address", ip)
		e.put("address_checked_timestamp_seconds", "When EC2 last returned the holder of the claimed Elastic IP.", c.CheckedAt, "address", ip)
	}
}

func (e emitter) serving(s report.Status) {
	e.put("docker_listed_timestamp_seconds", "When Docker was last listed successfully.", s.Tasks.At)
	if s.Tasks.Complete {
		e.put("containers", "Running containers.", s.Tasks.Running-s.Tasks.Batches, "kind", "service")
		e.put("containers", "Running containers.", s.Tasks.Batches, "kind", "batch")
	}
	alive, n := s.LiveSites()
	e.put("hosts", "Hosts in the route table.", n)
	e.put("hosts_live", "Hosts with a container behind every path.", alive)
	for _, site := range s.Routes.Sites {
		n := 0
		for _, l := range site.Locations {
			n += len(s.Routes.Pools[site.PoolKey(l)].Servers)
		}
		e.put("host_servers", "Containers that serve a host.", n, "host", site.Host)
	}
	e.put("nginx_up", "1 while nginx runs.", s.Nginx.Running)
	e.put("nginx_settled", "1 while nginx is in sync: it serves the newest configuration.", s.Nginx.Settled)
	if s.Nginx.Generation != "" {
		e.put("nginx_generation_info", "Always 1; the label names the configuration that nginx serves.", 1, "generation", s.Nginx.Generation)
	}
	e.put("nginx_generations_total", "Configurations that went live.", s.Nginx.Reloads)
	e.put("nginx_loaded_timestamp_seconds", "When the last configuration went live.", s.Nginx.LoadedAt)
	e.put("nginx_draining_workers", "Draining workers, which still serve clients after a reload.", s.Nginx.WorkersDraining)
	e.put("nginx_quarantined_hosts", "Hosts in quarantine, because nginx refuses their configuration.", len(s.Nginx.Quarantined))
	for _, p := range s.Certs.Pairs {
		e.put("certificate_expiry_timestamp_seconds", "When a certificate expires.", p.NotAfter, "name", p.Name)
	}
	for _, c := range s.Certificates().Entries {
		for _, host := range c.Hosts {
			labels := []string{"host", host, "key", string(c.KeyType), "source", c.Source}
			e.put("certificate_not_after_timestamp_seconds", "When the certificate of a host expires.", c.NotAfter, labels...)
			e.put("certificate_renewal_due_timestamp_seconds", "When the certificate of a host is renewed, or ordered, at the earliest.", c.Renewal, labels...)
			if !c.NotAfter.IsZero() {
				e.put("certificate_overdue", "1 while the certificate of a host should have been renewed, or has expired.", c.Overdue, labels...)
			}
		}
	}
	if s.Orders.On {
		for _, result := range certs.Results {
			e.put("certificate_orders_total", "Orders of certificates since the agent started, by what came of them.", int(s.Orders.Orders[result]), "result", string(result))
		}
	}
}

func (e emitter) credits(s report.Status) {
	if c := s.Credit; c.Burstable {
		e.put("credit_max", "Largest balance of this instance type.", c.Max)
		e.put("credit_earned_per_hour", "CPU credits that this instance type earns in an hour.", c.EarnPerHour)
		e.put("credit_spent_last_hour", "CPU credits spent in the last hour.", c.SpentLastHour.Services, "by", "services")
		e.put("credit_spent_last_hour", "CPU credits spent in the last hour.", c.SpentLastHour.Batch, "by", "batches")
		e.put("credit_anchor_timestamp_seconds", "Time of the CloudWatch point that the balance is based on.", c.AnchorAt)
		if c.Known {
			e.put("credit_balance", "Estimated CPU credits, in vCPU-minutes. Absent while unknown.", c.Balance)
			e.put("credit_balance_error", "By how much the estimate may be wrong, in credits.", c.ErrorBar)
			e.put("credit_surplus", "Borrowed CPU credits of an unlimited instance.", c.Surplus)
		}
	}
	e.put("gate_open", "1 while batches may start.", s.Gate.Decision.Open)
	if s.Gate.Decision.Known {
		e.put("gate_headroom_credits", "CPU credits that batches may spend now.", s.Gate.Decision.Headroom)
	}
	if p := s.Gate.Decision.Surplus; p != nil {
		e.put("gate_surplus_limit_credits", "Surplus credits that may be charged and owed in the period of gate.surplus-period.", p.Limit)
		e.put("gate_surplus_charged_credits", "Surplus credits that were charged in that period.", p.Charged)
	}
	states := map[string]int{}
	for _, j := range s.Gate.Decision.Jobs {
		states[string(j.Phase)]++
	}
	for _, state := range []string{"waiting", "admitted", "running", "refused"} {
		e.put("gate_jobs", "Jobs at the gate.", states[state], "state", state)
	}
}

func (e emitter) problems(s report.Status) {
	severe, n := s.Severe()
	e.put("problems", "Standing problems.", severe, "severity", problem.Error.String())
	e.put("problems", "Standing problems.", n-severe, "severity", problem.Warning.String())
	for _, p := range s.Problems {
		e.put("problem_since_timestamp_seconds", "When a standing problem began.", p.Since, "code", p.Code, "subject", p.Subject, "severity", p.Severity.String())
	}
}
