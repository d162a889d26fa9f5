package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Control changes the simulated cloud, or asks it: an HTTP method, a path of its
// control endpoint, a body or nil, and where to put the answer or nil.
func (s *Stage) Control(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.ControlURL+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// SetBalance sets the credit balance of this host and publishes it to CloudWatch now.
func (s *Stage) SetBalance(ctx context.Context, credits float64) error {
	return s.Control(ctx, http.MethodPut, "/instances/"+s.InstanceID+"/credits", map[string]any{"balance": credits, "publish": true}, nil)
}

// Addresses is the address table of the simulated cloud: public address to the
// id of the instance that holds it, or the empty string.
func (s *Stage) Addresses(ctx context.Context) (map[string]string, error) {
	var state struct {
		Addresses []struct {
			PublicIP   string `json:"public_ip"`
			InstanceID string `json:"instance_id"`
		} `json:"addresses"`
	}
	if err := s.Control(ctx, http.MethodGet, "/state", nil, &state); err != nil {
		return nil, err
	}
	table := map[string]string{}
	for _, a := range state.Addresses {
		table[a.PublicIP] = a.InstanceID
	}
	return table, nil
}
