// Package dockerapi makes clients of the Docker Engine whose answers are bounded: labels
// are as long as their container's author likes, and the engine repeats them in lists,
// inspections and events.
package dockerapi

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// dialTimeout is how long a connection may take.
const dialTimeout = 10 * time.Second

// New returns a client of the engine at host, e.g. "unix:///run/docker.sock" or
// "tcp://10.0.0.5:2375"; empty is the local one. An object that is too long, such as one
// container in a list, comes as one that has its Id alone, or not at all.
func New(host string) (*client.Client, error) {
	host = cmp.Or(host, client.DefaultDockerHost)
	at, err := client.ParseHostURL(host)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{MaxIdleConns: 6, IdleConnTimeout: 30 * time.Second}
	if at.Scheme == "unix" {
		t.DisableCompression = true
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			return d.DialContext(ctx, "unix", at.Host)
		}
	}
	// The client knows the host by the first option, and its own transport has no bound.
	return client.New(client.WithHost(host), client.WithHTTPClient(&http.Client{Transport: bounded{t}, CheckRedirect: client.CheckRedirect}))
}

// bounded limits what answers hold.
type bounded struct{ *http.Transport }

// RoundTrip carries out a request.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	var most int64 = maxAnswer
	if strings.HasSuffix(req.URL.Path, "/events") {
		most = -1 // it has no end
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{newValues(resp.Body, most), resp.Body}
	return resp, nil
}
