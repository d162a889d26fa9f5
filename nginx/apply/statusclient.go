package apply

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// statusClient asks a running nginx for its generation, over the unix socket of that path.
// Each request has a connection of its own: a kept one would belong to an old worker after a
// reload.
type statusClient string

// generation returns the generation that the running nginx serves; "" when it does not answer
// within a second.
func (socket statusClient) generation(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", string(socket))
	if err != nil {
		return ""
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // when ctx has ended
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /generation HTTP/1.0\r\nHost: nginx\r\n\r\n"); err != nil {
		return ""
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	if b, err := io.ReadAll(io.LimitReader(res.Body, 64)); err == nil && nginx.IsGeneration(string(b)) {
		return string(b)
	}
	return ""
}
