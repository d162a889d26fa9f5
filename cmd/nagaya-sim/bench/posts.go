package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// posters is how many connections post, each without a pause.
const posters = 16

// posts counts the requests that reloads cost clients that may not repeat them.
// Each reload comes from a file that adds or removes another site.
func (b *bench) posts(ctx context.Context) (err error) {
	routes, err := os.MkdirTemp("", "nagaya-routes-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(routes)
	p, err := b.startStage(ctx, stage.Options{Config: "routes: {dir: " + routes + "}\n"})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	if _, err := p.Run(ctx, p.container("app", "a.test")); err != nil {
		return err
	}
	if _, err := p.waitForAnswer(ctx, p.URL("a.test", "/", false)); err != nil {
		return err
	}
	if err := p.waitInSync(ctx); err != nil {
		return err
	}
	first, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	last := first
	crowd := startPosters(ctx, fmt.Sprintf("127.0.0.1:%d", p.HTTPPort))
	defer crowd.stop()
	for there := true; last-first < b.count(40, 6); there = !there {
		if last, err = p.toggleSite(ctx, routes+"/other.yaml", there); err != nil {
			return err
		}
	}
	crowd.stop()
	reloads := last - first
	per := float64(posters * reloads)
	row := Row{
		What: fmt.Sprintf("%d keep-alive connections of POSTs through %d reloads; no pause, repeated by nobody", posters, reloads),
		Got:  fmt.Sprintf("%d of %d POSTs lost%s; %.1f %% of connections in each reload", crowd.lost, crowd.sent, crowd.why(), 100*float64(crowd.lost)/per),
		Figures: map[string]float64{
			"lost": float64(crowd.lost), "sent": float64(crowd.sent), "reloads": float64(reloads), "connections": posters, "per_reload": float64(crowd.lost) / per,
		},
	}
	if b.keepsIdle {
		row.Bound, row.Missed = "0 lost", crowd.lost > 0
	} else {
		row.Got += "; nginx before 1.27.4 cannot keep idle connections"
	}
	b.add(row)
	return nil
}

// toggleSite adds or removes the site of a file, waits until nginx serves that, and
// returns how many reloads there were so far.
func (p *agentStage) toggleSite(ctx context.Context, file string, there bool) (reloads int, err error) {
	hosts := 1
	if there {
		hosts = 2
		// Any port that is listened at will do, and nginx's own is there.
		err = os.WriteFile(file, fmt.Appendf(nil, "other: {to: '127.0.0.1:%d', host: other.test}\n", p.HTTPPort), 0o644)
	} else {
		err = os.Remove(file)
	}
	if err != nil {
		return 0, err
	}
	if err := p.waitForRoutes(ctx, hosts); err != nil {
		return 0, err
	}
	return p.reloads(ctx)
}

// crowd are connections that post as fast as they are answered.
type crowd struct {
	end  context.CancelFunc
	done sync.WaitGroup

	mu         sync.Mutex
	sent, lost int
	first      error
}

func startPosters(ctx context.Context, addr string) *crowd {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{end: cancel}
	for range posters {
		c.done.Go(func() {
			for ctx.Err() == nil {
				c.post(ctx, addr)
			}
		})
	}
	return c
}

// stop ends the crowd; its counts may be read then.
func (c *crowd) stop() {
	c.end()
	c.done.Wait()
}

func (c *crowd) why() string {
	if c.first == nil {
		return ""
	}
	return ", the first: " + c.first.Error()
}

// post sends over one connection until that ends.
func (c *crowd) post(ctx context.Context, addr string) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		c.note(ctx, err)
		return
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for ctx.Err() == nil && !closedByServer(conn) {
		last, err := exchange(conn, answers)
		c.note(ctx, err)
		if last || err != nil {
			return
		}
	}
}

func (c *crowd) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	if err != nil {
		if c.lost++; c.first == nil {
			c.first = err
		}
	}
}

// exchange posts once. last says that the server wants no more on this connection.
func exchange(conn net.Conn, answers *bufio.Reader) (last bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return true, err
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		return true, err
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return true, err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "POST") {
		return true, fmt.Errorf("%s: %.80q", resp.Status, body)
	}
	return resp.Close, nil
}

// closedByServer says whether the server has ended the connection already: a client that
// looks sends nothing there.
func closedByServer(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN)
	})
	return over || err != nil
}
