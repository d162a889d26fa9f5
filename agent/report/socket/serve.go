package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Agent is what the socket needs of the agent.
type Agent interface {
	Status() report.Status
	// Address carries out an operator's request, and returns when that is done.
	Address(context.Context, address.Request) error
	// Reload reads the configuration again and returns what is wrong with it.
	Reload() error
	// Leave takes the operator's word that this instance goes away, or, if it is
	// false, that it stays after all.
	Leave(context.Context, bool) error
	// Renew has a new certificate ordered for a host, and returns when it is there, or what it waits for.
	Renew(ctx context.Context, host string) error
	// Job takes the state of a job and returns the agent's entry for
	// it: at once, or, for a job that waits, when it may run or ctx ends.
	Job(context.Context, gate.Asked) (gate.Entry, error)
}

const (
	maxBody = 64 << 10
	// maxPatience is the longest that a request is held open. A job that is held is
	// not heard meanwhile, and must not be dropped for that.
	maxPatience = gate.Silence / 2
)

// failure is the body of every answer that is not 200.
type failure struct {
	Error string `json:"error"`
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, a Agent) error {
	s := &http.Server{
		Handler:           mux(a),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withAsker,
	}
	stop := context.AfterFunc(ctx, func() {
		// Requests that wait see ctx end and answer; the rest take milliseconds.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the socket: %w", err)
	}
	return nil
}

func mux(a Agent) http.Handler {
	m := http.NewServeMux()
	change := func(pattern string, do func(http.ResponseWriter, *http.Request) error) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := errNotRoot
			if mayChange(r.Context()) {
				err = do(w, r)
			}
			answer(w, struct{}{}, err)
		})
	}
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, a.Status(), nil)
	})
	change("POST /v1/address", func(w http.ResponseWriter, r *http.Request) error {
		var asked address.Request
		if err := decode(w, r, &asked); err != nil {
			return fmt.Errorf("reading the request: %w", err)
		}
		return a.Address(r.Context(), asked)
	})
	change("POST /v1/reload", func(http.ResponseWriter, *http.Request) error { return a.Reload() })
	change("PUT /v1/leaving", func(_ http.ResponseWriter, r *http.Request) error { return a.Leave(r.Context(), true) })
	change("DELETE /v1/leaving", func(_ http.ResponseWriter, r *http.Request) error { return a.Leave(r.Context(), false) })
	change("POST /v1/renewals/{host}", func(_ http.ResponseWriter, r *http.Request) error { return a.Renew(r.Context(), r.PathValue("host")) })
	m.HandleFunc("PUT /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		j, err := job(w, r, a)
		answer(w, j, err)
	})
	return m
}

// asker is the key of the user who has made a connection.
type asker struct{}

// withAsker keeps the user who has made a connection, as the kernel says (unix(7), SO_PEERCRED).
func withAsker(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return ctx
	}
	_ = raw.Control(func(fd uintptr) { // without an answer nobody is known
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			ctx = context.WithValue(ctx, asker{}, peer.Uid)
		}
	})
	return ctx
}

var errNotRoot = errors.New("only root may ask for that (sudo); the socket's group may see the status and start batches")

// mayChange reports whether the asker may move the address and change what the agent does: root, and
// the agent's own user. Others who may open the socket see the status and start batches.
func mayChange(ctx context.Context) bool {
	uid, known := ctx.Value(asker{}).(uint32)
	return known && (uid == 0 || int(uid) == os.Geteuid())
}

func job(w http.ResponseWriter, r *http.Request, a Agent) (gate.Entry, error) {
	var asked gate.Asked
	if err := decode(w, r, &asked); err != nil {
		return gate.Entry{}, fmt.Errorf("reading the job: %w", err)
	}
	asked.ID = r.PathValue("id")
	patience := time.Duration(0)
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if patience, err = time.ParseDuration(text); err != nil || patience < 0 {
			return gate.Entry{}, fmt.Errorf("wait=%q is not a duration", text)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(patience, maxPatience))
	defer cancel()
	return a.Job(ctx, asked)
}

// decode reads the one value that a request carries.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more than one")
	}
	return nil
}

// answer writes v, or the error as what the asker did wrong: the agent's own
// troubles are in the status.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = failure{Error: err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // an asker that went away needs no answer
}
