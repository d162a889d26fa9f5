package apply

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// statusClient asks a running nginx what it serves, over a private socket.
type statusClient struct{ http *http.Client }

func newStatusClient(socket string) *statusClient {
	return &statusClient{http: &http.Client{
		Timeout: time.Second,
		Transport: &http.Transport{
			// A kept connection would belong to an old worker after a reload.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// generation asks the running nginx what it serves; "" when it does not answer.
func (c *statusClient) generation(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nginx/generation", nil)
	if err != nil {
		return ""
	}
	res, err := c.http.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if gen := string(b); err == nil && res.StatusCode == http.StatusOK && nginx.IsGeneration(gen) {
		return gen
	}
	return ""
}
