// Package metrics serves the status as Prometheus metrics.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Serve answers GET /metrics on l until ctx ends. The status is read once a
// scrape; without scrapes nothing is computed.
func Serve(ctx context.Context, l net.Listener, status func() report.Status) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{status},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	s := &http.Server{Handler: m, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}

// collector turns one status into metrics.
type collector struct{ status func() report.Status }

// metric is one time series family: its description and its labels.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// all are the metrics that gauge and counter made.
var all []metric

func gauge(name, help string, labels ...string) metric {
	return family(prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) metric {
	return family(prometheus.CounterValue, name, help, labels)
}

func family(kind prometheus.ValueType, name, help string, labels []string) metric {
	m := metric{prometheus.NewDesc("nagaya_"+name, help, labels, nil), kind}
	all = append(all, m)
	return m
}

var (
	info     = gauge("info", "Always 1; the labels identify this agent.", "version", "instance_id", "instance_type", "region", "zone", "cluster")
	identity = gauge("identity_known", "1 once instance metadata has answered.")
	leaving  = gauge("leaving", "1 while this instance leaves, as EC2 or the operator announced.")

	addressHeld     = gauge("address_held", "1 while this instance holds the claimed Elastic IP.", "address")
	addressReleased = gauge("address_released", "1 while the operator releases the claimed Elastic IP.", "address")
	addressInfo     = gauge("address_holder_info", "Always 1; the labels name the holder of the claimed Elastic IP.", "address", "holder", "policy")
	addressSince    = gauge("address_holder_since_timestamp_seconds", "When this agent first saw the present holder.", "address")
	addressMoves    = counter("address_associations_total", "Associations of the claimed Elastic IP made by this agent.", "claim")
	addressChecked  = gauge("address_checked_timestamp_seconds", "When EC2 last returned the holder of the claimed Elastic IP.", "address")

	listed     = gauge("docker_listed_timestamp_seconds", "When Docker was last listed successfully.")
	containers = gauge("containers", "Running containers.", "kind")
	hosts      = gauge("hosts", "Hosts in the route table.")
	live       = gauge("hosts_live", "Hosts with a container behind every path.")
	servers    = gauge("host_servers", "Containers that serve a host.", "host")

	nginxUp     = gauge("nginx_up", "1 while nginx runs.")
	settled     = gauge("nginx_settled", "1 while nginx is in sync: it serves the newest configuration.")
	generation  = gauge("nginx_generation_info", "Always 1; the label names the configuration that nginx serves.", "generation")
	generations = counter("nginx_generations_total", "Configurations that went live.")
	loaded      = gauge("nginx_loaded_timestamp_seconds", "When the last configuration went live.")
	draining    = gauge("nginx_draining_workers", "Draining workers, which still serve clients after a reload.")
	quarantined = gauge("nginx_quarantined_hosts", "Hosts in quarantine, because nginx refuses their configuration.")
	certificate = gauge("certificate_expiry_timestamp_seconds", "When a certificate expires.", "name")

	balance      = gauge("credit_balance", "Estimated CPU credits, in vCPU-minutes. Absent while unknown.")
	creditError  = gauge("credit_balance_error", "By how much the estimate may be wrong, in credits.")
	surplus      = gauge("credit_surplus", "Borrowed CPU credits of an unlimited instance.")
	creditMax    = gauge("credit_max", "Largest balance of this instance type.")
	earned       = gauge("credit_earned_per_hour", "CPU credits that this instance type earns in an hour.")
	spent        = gauge("credit_spent_last_hour", "CPU credits spent in the last hour.", "by")
	anchor       = gauge("credit_anchor_timestamp_seconds", "Time of the CloudWatch point that the balance is based on.")
	gateOpen     = gauge("gate_open", "1 while batches may start.")
	headroom     = gauge("gate_headroom_credits", "CPU credits that batches may spend now.")
	jobs         = gauge("gate_jobs", "Jobs at the gate.", "state")
	problemCount = gauge("problems", "Standing problems.", "severity")
	problemOne   = gauge("problem_since_timestamp_seconds", "When a standing problem began.", "code", "subject", "severity")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range all {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector. What is not known is left out: a
// metric that is absent cannot be mistaken for 0.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	e := emitter{ch, map[series]bool{}}
	e.machine(s)
	e.serving(s)
	e.credits(s)
	e.problems(s)
}

// emitter puts metrics. Names come from labels: no name may make a scrape fail.
type emitter struct {
	ch   chan<- prometheus.Metric
	seen map[series]bool
}

// series is the identity of one time series.
type series struct {
	desc   *prometheus.Desc
	labels string
}

// put makes one metric. Of two that would be the same time series the first counts.
func (e emitter) put(m metric, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	s := series{m.desc, strings.Join(labels, "\xff")}
	if e.seen[s] {
		return
	}
	e.seen[s] = true
	e.ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
}

func (e emitter) flag(m metric, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	e.put(m, v, labels...)
}

func (e emitter) time(m metric, t time.Time, labels ...string) {
	if !t.IsZero() {
		e.put(m, float64(t.UnixMilli())/1000, labels...)
	}
}

func (e emitter) machine(s report.Status) {
	in := s.Identity.Instance
	e.put(info, 1, s.Version, in.ID, in.Type, in.Region, in.Zone, s.Identity.ECS.Cluster)
	e.flag(identity, in.Known)
	e.flag(leaving, s.Identity.Leaving())
	for _, c := range s.Address.Claims {
		e.put(addressMoves, float64(c.Moves), c.Claim)
		if !c.Known {
			continue
		}
		ip, holder := c.Address.PublicIP.String(), c.Holder.InstanceID
		if holder == "" {
			holder = string(c.Holder.Kind)
		}
		e.flag(addressHeld, c.Held(), ip)
		e.flag(addressReleased, c.Released, ip)
		e.put(addressInfo, 1, ip, holder, string(c.Policy))
		e.time(addressSince, c.Since, ip)
		e.time(addressChecked, c.CheckedAt, ip)
	}
}

func (e emitter) serving(s report.Status) {
	e.time(listed, s.Tasks.At)
	if s.Tasks.Complete {
		e.put(containers, float64(s.Tasks.Running-s.Tasks.Batches), "service")
		e.put(containers, float64(s.Tasks.Batches), "batch")
	}
	alive, n := s.LiveSites()
	e.put(hosts, float64(n))
	e.put(live, float64(alive))
	for _, site := range s.Routes.Sites {
		n := 0
		for _, l := range site.Locations {
			n += len(s.Routes.Pools[site.PoolKey(l)].Servers)
		}
		e.put(servers, float64(n), site.Host)
	}
	e.flag(nginxUp, s.Nginx.Running)
	e.flag(settled, s.Nginx.Settled)
	if s.Nginx.Generation != "" {
		e.put(generation, 1, s.Nginx.Generation)
	}
	e.put(generations, float64(s.Nginx.Reloads))
	e.time(loaded, s.Nginx.LoadedAt)
	e.put(draining, float64(s.Nginx.WorkersDraining))
	e.put(quarantined, float64(len(s.Nginx.Quarantined)))
	for _, p := range s.Certs.Pairs {
		e.time(certificate, p.NotAfter, p.Name)
	}
}

func (e emitter) credits(s report.Status) {
	if c := s.Credit; c.Burstable {
		e.put(creditMax, c.Max)
		e.put(earned, c.EarnPerHour)
		e.put(spent, c.SpentLastHour.Services, "services")
		e.put(spent, c.SpentLastHour.Batch, "batches")
		e.time(anchor, c.AnchorAt)
		if c.Known {
			e.put(balance, c.Balance)
			e.put(creditError, c.ErrorBar)
			e.put(surplus, c.Surplus)
		}
	}
	e.flag(gateOpen, s.Gate.Decision.Open)
	if s.Gate.Decision.Known {
		e.put(headroom, s.Gate.Decision.Headroom)
	}
	states := map[string]int{}
	for _, j := range s.Gate.Decision.Jobs {
		states[string(j.Phase)]++
	}
	for _, state := range []string{"waiting", "admitted", "running", "refused"} {
		e.put(jobs, float64(states[state]), state)
	}
}

func (e emitter) problems(s report.Status) {
	severe, n := s.Severe()
	e.put(problemCount, float64(severe), problem.Error.String())
	e.put(problemCount, float64(n-severe), problem.Warning.String())
	for _, p := range s.Problems {
		e.time(problemOne, p.Since, p.Code, p.Subject, p.Severity.String())
	}
}
