// Package dockerapi makes clients of the Docker Engine that only read, but for what they are
// made for, and whose answers are bounded: labels are as long as their container's author
// likes, and the engine repeats them in lists, inspections and events.
package dockerapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// dialTimeout is how long a connection may take.
const dialTimeout = 10 * time.Second

// New returns a client of the engine at host, e.g. "unix:///run/docker.sock" or
// "tcp://10.0.0.5:2375"; empty is the local one. An object that is too long, such as one
// container in a list, comes as one that has its Id alone, or not at all. The client only reads,
// but for these actions on a container, by the last word of their path in the API, e.g. "pause";
// any other request is an error and is not sent. A stream that takes the connection over, such
// as that of exec, is not looked at.
func New(host string, actions ...string) (*client.Client, error) {
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
	return client.New(client.WithHost(host), client.WithHTTPClient(&http.Client{Transport: bounded{t, actions}, CheckRedirect: client.CheckRedirect}))
}

// bounded limits what is sent, and what answers hold.
type bounded struct {
	*http.Transport
	actions []string
}

// errReadsOnly is returned for a request that is none of the client's actions.
var errReadsOnly = errors.New("the request would change something in the Docker Engine, which this client may not")

// RoundTrip carries out a request.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead &&
		(req.Method != http.MethodPost || !slices.Contains(b.actions, path.Base(req.URL.Path))) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, errReadsOnly)
	}
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
