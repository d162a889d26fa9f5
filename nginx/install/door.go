package install

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// door is the private socket at which a running nginx says what it serves.
type door struct{ http *http.Client }

func newDoor(socket string) *door {
	return &door{http: &http.Client{
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
func (d *door) generation(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nginx/generation", nil)
	if err != nil {
		return ""
	}
	res, err := d.http.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if gen := string(b); err == nil && res.StatusCode == http.StatusOK && generationName.MatchString(gen) {
		return gen
	}
	return ""
}
