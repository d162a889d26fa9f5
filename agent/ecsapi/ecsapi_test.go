package ecsapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/sockdiag"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// stranger is a user that is neither root nor this process's.
const stranger = 65534

const answer = `{"Tasks":[]}`

// serve has the answers to all connections made by that function, with the permissions of a
// user, and returns the URL. What a thread listens at and accepts is its user's.
func serve(t *testing.T, user int, at string, answers func(net.Listener)) string {
	t.Helper()
	listener, ended := make(chan net.Listener, 1), make(chan struct{})
	var failed error
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if _, failed = unix.SetfsuidRetUid(user); failed != nil {
			return
		}
		l, err := net.Listen("tcp", at)
		if failed = err; err == nil {
			listener <- l
			answers(l)
		}
	}()
	select {
	case l := <-listener:
		t.Cleanup(func() { l.Close(); <-ended })
		return fmt.Sprintf("http://%s", l.Addr())
	case <-ended:
		testenv.Need(t, failed)
		return ""
	}
}

func webServer(l net.Listener) {
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
}

// then answers each connection and does that with it.
func then(what func(*net.TCPConn)) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
			what(c.(*net.TCPConn))
		}
	}
}

func ask(t *testing.T, url string) error {
	var v struct{ Tasks *[]any }
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	return Client{URL: url, PeerUser: sockdiag.PeerUser, Transport: transport}.Get(t.Context(), "/v1/tasks", &v)
}

func TestOnLoopbackRootIsBelieved(t *testing.T) {
	testenv.NeedRoot(t)
	for _, at := range []string{"127.0.0.1:0", "127.0.0.9:0", "[::1]:0"} {
		if err := ask(t, serve(t, 0, at, webServer)); err != nil {
			t.Errorf("root at %s: %v", at, err)
		}
	}
	_, port, _ := net.SplitHostPort(serve(t, 0, ":0", webServer)[len("http://"):])
	if err := ask(t, "http://127.0.0.1:"+port); err != nil {
		t.Errorf("root at every address of both families: %v", err)
	}
}

// While no agent runs, every user of the host can listen where it would.
func TestOnLoopbackOthersAreNotBelieved(t *testing.T) {
	testenv.NeedRoot(t)
	for name, answers := range map[string]func(net.Listener){
		"that stays":          webServer,
		"that closes at once": then(func(c *net.TCPConn) { c.Close() }),
		"that resets":         then(func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }),
		"that ends its half":  then(func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.Copy(io.Discard, c); c.Close() }),
	} {
		for _, at := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
			url := serve(t, stranger, at, answers)
			_, port, _ := net.SplitHostPort(url[len("http://"):])
			if at == ":0" {
				url = "http://127.0.0.1:" + port
			}
			if err := ask(t, url); !errors.Is(err, ErrNotAgent) {
				t.Errorf("a stranger %s, at %s: %v, want %v", name, at, err, ErrNotAgent)
			}
		}
	}
}
