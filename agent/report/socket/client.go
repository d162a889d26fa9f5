package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// ErrNoAgent is the error of every call while no agent answers on the socket.
var ErrNoAgent = errors.New("the agent does not answer")

// Client asks the agent on this host.
type Client struct {
	path string
	http *http.Client
	// patience is for an agent that is there and does not answer.
	patience time.Duration
}

// comesWithin is longer than a restart of the agent takes. systemd keeps the socket
// meanwhile, and also while an agent ends again and again.
const comesWithin = 20 * time.Second

// Dial returns a client for the socket at path. Nothing is connected yet.
func Dial(path string) *Client {
	return &Client{path: path, patience: comesWithin, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
}

// Status returns what the agent knows.
func (c *Client) Status(ctx context.Context) (report.Status, error) {
	var s report.Status
	return s, c.call(ctx, 0, http.MethodGet, "/v1/status", nil, &s)
}

// Address asks the agent to take or to release addresses, and waits for the outcome.
func (c *Client) Address(ctx context.Context, r address.Request) error {
	// The outcome may take long, so it is checked first whether an agent answers.
	if _, err := c.Status(ctx); err != nil {
		return err
	}
	return c.call(ctx, unbounded, http.MethodPost, "/v1/address", r, nil)
}

// Reload has the agent read its configuration again and returns what is wrong with
// it; then the one from before stays in force. Where no systemd keeps the socket, an agent that has just noticed the
// change makes it again, and may hang up before it has answered: that is waited for.
func (c *Client) Reload(ctx context.Context) error {
	for until := time.Now().Add(remade); ; {
		err := c.call(ctx, 0, http.MethodPost, "/v1/reload", nil, nil)
		gone := errors.Is(err, ErrNoAgent) && !errors.Is(err, fs.ErrPermission)
		if !gone || time.Now().After(until) || !backoff.Sleep(ctx, remade/50) {
			return err
		}
	}
}

// remade is longer than an agent takes that makes its socket again.
const remade = time.Second

// Leave has the agent announce that this instance leaves, or that it stays after all.
func (c *Client) Leave(ctx context.Context, yes bool) error {
	method := http.MethodPut
	if !yes {
		method = http.MethodDelete
	}
	return c.call(ctx, 0, method, "/v1/leaving", nil, nil)
}

// Renew has a new certificate ordered for a host, and waits until it is there.
func (c *Client) Renew(ctx context.Context, host string) error {
	return c.call(ctx, renewing, http.MethodPost, "/v1/renewals/"+url.PathEscape(host), nil, nil)
}

// renewing is how long an order takes at most.
const renewing = 6 * time.Minute

// Job reports the state of a job to the agent and returns the agent's entry for it. A
// job that waits gets its answer when it may run, or after the given patience.
func (c *Client) Job(ctx context.Context, asked gate.Asked, patience time.Duration) (gate.Entry, error) {
	var j gate.Entry
	path := "/v1/jobs/" + url.PathEscape(asked.ID) + "?wait=" + patience.String()
	return j, c.call(ctx, patience, http.MethodPut, path, asked, &j)
}

// maxAnswer bounds an answer of the agent, in bytes.
const maxAnswer = 16 << 20

// unbounded is longer than any outcome takes.
const unbounded = 24 * time.Hour

// call asks one thing. own is the time that the answer itself may take.
func (c *Client) call(asker context.Context, own time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(asker, own+c.patience)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if asker.Err() != nil {
			return asker.Err()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w on %s within %s", ErrNoAgent, c.path, own+c.patience)
		}
		return fmt.Errorf("%w on %s: %w", ErrNoAgent, c.path, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w on %s: %w", ErrNoAgent, c.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(b, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		return errors.New(f.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return nil
}
