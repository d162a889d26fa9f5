package metrics

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// traffic puts what was served. Host and path are those of the route table, never a client's, and a host has paths only
// where there are several: then the path is empty for requests that no location serves.
func (e emitter) traffic(r traffic.Report) {
	if r.Since.IsZero() || r.Unavailable != "" {
		return
	}
	says := func(what string) bool { return !slices.Contains(r.Missing, what) }
	for _, h := range r.Hosts {
		if h.Elsewhere {
			continue
		}
		e.requests(h.Host, "", h.Pathless)
		for _, p := range h.Paths {
			if says("path") {
				e.requests(h.Host, p.Path, p.Requests)
			}
		}
		e.put("http_last_request_timestamp_seconds", "When the last request for a host was answered, 10 s late at most.", h.Last, "host", h.Host)
		e.put("http_websockets_ended_total", "Upgraded connections that have ended.", h.Websockets, "host", h.Host)
		if h.Open != nil {
			e.put("http_upstream_connections", "Connections that are open to the containers of a host: requests under way, WebSockets, and those that are idle for a second.", *h.Open, "host", h.Host)
		}
		if says("bytes") {
			e.put("http_response_bytes_total", "Bytes of the answers to clients, without headers unless the format of the access log has no others.", h.Bytes, "host", h.Host)
		}
		if says("failures") {
			e.put("http_upstream_failures_total", "Requests for which a container did not answer, whether another did or not.", h.Failures, "host", h.Host)
		}
		if says("seconds") {
			e.histogram("nagaya_http_request_duration_seconds", "How long answers took, from the first byte of the request to the last of the answer.", h.Seconds, "host", h.Host)
		}
	}
	for _, s := range r.Streams {
		if !says("connections") {
			break
		}
		e.put("stream_connections_total", "Connections of a port that have ended.", s.Connections, "listen", s.Listen)
		e.put("stream_received_bytes_total", "Bytes from the clients of a port, of connections that have ended.", s.Received, "listen", s.Listen)
		e.put("stream_sent_bytes_total", "Bytes to the clients of a port, of connections that have ended.", s.Sent, "listen", s.Listen)
		e.put("stream_upstream_failures_total", "Connections of a port that no container accepted.", s.Failures, "listen", s.Listen)
		if s.Open != nil {
			e.put("stream_upstream_connections", "Connections that are open to the containers of a port.", *s.Open, "listen", s.Listen)
		}
		e.put("stream_last_connection_timestamp_seconds", "When the last connection of a port ended, 10 s late at most.", s.Last, "listen", s.Listen)
	}
}

func (e emitter) requests(host, path string, by traffic.Classes) {
	for i, n := range by {
		e.put("http_requests_total", "Requests by the class of their status. The path is that of a location, where a host has several.", n, "host", host, "path", path, "code", fmt.Sprintf("%dxx", i+1))
	}
}

// histogram puts a histogram, whose buckets are those up to a bound (Prometheus documentation, "Exposition formats").
func (e emitter) histogram(name, help string, h traffic.Histogram, pairs ...string) {
	f := e.family(name, help)
	f.histogram = true
	var n uint64
	for i, b := range h.Buckets {
		n += b
		le := "+Inf"
		if i < len(traffic.Bounds) {
			le = strconv.FormatFloat(traffic.Bounds[i], 'g', -1, 64)
		}
		e.line(f, name+"_bucket", float64(n), append(slices.Clone(pairs), "le", le))
	}
	e.line(f, name+"_sum", h.Sum, pairs)
	e.line(f, name+"_count", float64(n), pairs)
}
