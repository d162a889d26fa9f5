package dockerapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

// A client changes nothing but what it was made for.
func TestClientsOnlyRead(t *testing.T) {
	var got []string
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		at := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
		if at != "_ping" {
			got = append(got, req.Method+" "+at)
		}
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		if at == "json" {
			w.Write([]byte("[]"))
		}
	}))
	t.Cleanup(engine.Close)
	for name, row := range map[string]struct {
		actions, reach []string
	}{
		"reads":  {nil, []string{"GET json"}},
		"pauses": {[]string{"pause"}, []string{"GET json", "POST pause"}},
	} {
		got = nil
		c, err := New("tcp://"+engine.Listener.Addr().String(), row.actions...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ctx := t.Context()
		_, listed := c.ContainerList(ctx, client.ContainerListOptions{})
		_, paused := c.ContainerPause(ctx, "web", client.ContainerPauseOptions{})
		_, removed := c.ContainerRemove(ctx, "web", client.ContainerRemoveOptions{Force: true})
		_, killed := c.ContainerKill(ctx, "web", client.ContainerKillOptions{})
		if may := slices.Contains(row.actions, "pause"); listed != nil || may == errors.Is(paused, errReadsOnly) || may && paused != nil {
			t.Errorf("%s: list %v, pause %v", name, listed, paused)
		}
		if !errors.Is(removed, errReadsOnly) || !errors.Is(killed, errReadsOnly) || !slices.Equal(got, row.reach) {
			t.Errorf("%s: remove %v, kill %v; the engine got %q, want %q", name, removed, killed, got, row.reach)
		}
	}
}
