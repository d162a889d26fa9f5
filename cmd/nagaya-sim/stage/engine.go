package stage

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"time"
)

// ownEngine shows an agent a Docker Engine on which there are no containers but
// those of its own stage, so that several hosts can share one engine.
type ownEngine struct {
	url  string
	dir  string
	http *http.Server
}

func (s *Stage) shareEngine() (*ownEngine, error) {
	// A socket's path must be short, and most temporary directories' are not.
	dir, err := os.MkdirTemp("", "engine-")
	if err != nil {
		return nil, err
	}
	e := &ownEngine{dir: dir, url: "unix://" + dir + "/docker.sock"}
	l, err := net.Listen("unix", dir+"/docker.sock")
	if err != nil {
		return nil, err
	}
	network, addr, _ := strings.Cut(s.dockerH, "://")
	label := stageLabel + "=" + s.id
	e.http = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine"
			if path := r.In.URL.Path; strings.HasSuffix(path, "/containers/json") || strings.HasSuffix(path, "/events") {
				q := r.Out.URL.Query()
				q.Set("filters", withLabel(q.Get("filters"), label))
				r.Out.URL.RawQuery = q.Encode()
			}
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}},
		FlushInterval: -1, // events are to arrive when they happen
	}}
	go func() { _ = e.http.Serve(l) }()
	return e, nil
}

// withLabel adds a label to the filters of a request.
func withLabel(filters, label string) string {
	all := map[string]map[string]bool{}
	_ = json.Unmarshal([]byte(filters), &all) // none are none
	if all["label"] == nil {
		all["label"] = map[string]bool{}
	}
	all["label"][label] = true
	b, _ := json.Marshal(all) // such a map is always JSON
	return string(b)
}

func (e *ownEngine) close() error {
	if e == nil {
		return nil
	}
	_ = e.http.Close() // cuts what is under way, which is no error
	return os.RemoveAll(e.dir)
}
