package stage

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// gets waits until a path of a host answers with that status and text.
func gets(t *testing.T, s *Stage, host, path string, status int, text string) {
	t.Helper()
	c, err := s.Client()
	must(t, err)
	defer c.CloseIdleConnections()
	until(t, host+path+" answers "+text, func() error {
		got, body, err := get(t.Context(), c, s.URL(host, path, false))
		if err != nil {
			return err
		}
		if got != status || !strings.Contains(body, text) {
			return fmt.Errorf("status %d, body %q", got, body)
		}
		return nil
	})
}

// says sends a line to a port of this host and returns the answer.
func says(ctx context.Context, network string, port int, line string) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// What labels, nginx-proxy's words and files can ask for, beside each other on one
// host, and each in the form in which its user would write it.
func TestEveryKindOfRoute(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "elsewhere answers %s", r.URL.Path)
	}))
	t.Cleanup(elsewhere.Close)
	routes := t.TempDir()
	s, nginx := household(t, Options{Config: "routes: {dir: " + routes + ", expressions: true}\n"})
	_, end := unbroken(t, s, "a.test", 25)
	tcp, udp, err := FreePorts()
	must(t, err)

	must(t, os.WriteFile(routes+"/elsewhere.yaml", []byte("elsewhere: {to: '"+elsewhere.Listener.Addr().String()+"', host: static.test}\n"), 0o644))
	run(t, s, Container{
		Name: "own-" + s.id, Args: []string{"-name", "own", "-tls"}, Ports: map[string]string{"8080/tcp": "0"},
		Labels: map[string]string{"nagaya.host": "own.test", "nagaya.tls": "passthrough"},
	})
	run(t, s, Container{
		Name: "lines-" + s.id, Args: []string{"-name", "lines", "-line", ":9000"}, Ports: map[string]string{"9000/tcp": "0", "9000/udp": "0"},
		Labels: map[string]string{
			"nagaya.chat.listen": fmt.Sprintf("tcp:%d", tcp), "nagaya.beacon.listen": fmt.Sprintf("udp:%d", udp),
		},
	})
	run(t, s, Container{
		Name: "proxied-" + s.id, Args: []string{"-name", "proxied"},
		Env: []string{`VIRTUAL_HOST=v.test,*.w.test,~^x[0-9]+\.test$`, "VIRTUAL_PORT=8080", "VIRTUAL_PATH=/app/", "VIRTUAL_DEST=/"},
	})

	gets(t, s, "static.test", "/x", 200, "elsewhere answers /x")
	for _, host := range []string{"v.test", "deep.w.test", "x12.test"} {
		gets(t, s, host, "/app/x", 200, "proxied answers GET "+host+fmt.Sprintf(":%d/x", s.HTTPPort))
		gets(t, s, host, "/other", 404, "")
	}
	until(t, "the container's own certificate", func() error {
		d := tls.Dialer{Config: &tls.Config{ServerName: "own.test", InsecureSkipVerify: true}}
		c, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPSPort))
		if err != nil {
			return err
		}
		defer c.Close()
		if name := c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; name != "own" {
			return fmt.Errorf("the certificate is that of %q", name)
		}
		return nil
	})
	for _, row := range []struct {
		network string
		port    int
	}{{"tcp", tcp}, {"udp", udp}} {
		until(t, "lines over "+row.network, func() error {
			got, err := says(t.Context(), row.network, row.port, "hello")
			if err == nil && (!strings.HasPrefix(got, "lines answers ") || !strings.HasSuffix(got, ": hello\n")) {
				err = fmt.Errorf("the answer is %q", got)
			}
			return err
		})
	}
	answers(t, s, "a.test", "alpha 1") // beside the one whose TLS is passed on
	out, code, err := s.CLI(t.Context(), "routes")
	must(t, err)
	for _, want := range []string{"own.test", fmt.Sprintf("tcp:%d", tcp), fmt.Sprintf("udp:%d", udp), "elsewhere.yaml:elsewhere", `~^x[0-9]+\.test$`} {
		if !strings.Contains(out, want) || code != 0 {
			t.Errorf("nagaya routes (exit code %d) does not show %s:\n%s", code, want, out)
		}
	}
	must(t, os.Remove(routes+"/elsewhere.yaml"))
	gets(t, s, "static.test", "/x", 503, "")
	must(t, s.Stop(t.Context(), "lines-"+s.id, 5))
	until(t, "a port with nothing behind it closes at once", func() error {
		if got, err := says(t.Context(), "tcp", tcp, "hello"); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
			return fmt.Errorf("%q, %v", got, err)
		}
		return nil
	})
	end()
	sameNginx(t, s, nginx)
}
