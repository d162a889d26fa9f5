package stage

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// asks gets a path over nginx, or past it, and returns the status and the text.
func asks(t *testing.T, c *http.Client, url string, more func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	more(r)
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	must(t, err)
	return resp.StatusCode, string(text), resp.Header
}

// The page shows the host at the address of the metrics, and is a site of its own for who knows the password.
func TestThePage(t *testing.T) {
	port, _, err := FreePorts()
	must(t, err)
	passwords, err := os.MkdirTemp("", "nagaya-passwords-") // which nginx's workers read, as another user
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(passwords) })
	must(t, os.Chmod(passwords, 0o755))
	must(t, os.WriteFile(passwords+"/staff", []byte("ann:{PLAIN}secret\n"), 0o644))
	s, _ := household(t, Options{
		Hosts:  []string{"status.test", "lan.test"},
		Config: fmt.Sprintf("  htpasswd-dir: %s\nmetrics: {listen: '127.0.0.1:%d'}\npage: {host: status.test, auth: staff}\n", passwords, port),
	})
	c, err := s.Client()
	must(t, err)
	defer c.CloseIdleConnections()
	ann := func(r *http.Request) { r.SetBasicAuth("ann", "secret") }
	site := s.URL("status.test", "/", true)
	until(t, "the page is a site", func() error {
		if status, text, _ := asks(t, c, site, ann); status != 200 || !strings.Contains(text, "a.test") {
			return fmt.Errorf("status %d: %s", status, text)
		}
		return nil
	})
	own := fmt.Sprintf("http://127.0.0.1:%d/", port)
	for _, row := range []struct {
		name, url string
		more      func(*http.Request)
		status    int
		text      string
	}{
		{"its file", site + "assets/page.js", ann, 200, "use strict"},
		{"its answers", site + "api/v1/status", ann, 200, `"host":"a.test"`},
		{"no password", site, func(*http.Request) {}, 401, ""},
		{"no password for the answers", site + "api/v1/status", func(*http.Request) {}, 401, ""},
		{"a wrong password", site, func(r *http.Request) { r.SetBasicAuth("ann", "guessed") }, 401, ""},
		{"another origin, with the password that the browser keeps", site + "api/v1/status", func(r *http.Request) { ann(r); r.Header.Set("Origin", "https://a.test") }, 403, ""},
		{"plain HTTP", s.URL("status.test", "/", false), ann, 403, ""},
		{"another site", s.URL("a.test", "/api/v1/status", true), ann, 200, "alpha"},
		{"on this host", own, func(*http.Request) {}, 200, "203.0.113.10"},
		{"on this host, under a name of somebody else", own, func(r *http.Request) { r.Host = "attacker.test" }, 421, ""},
		{"metrics, under a name of somebody else", own + "metrics", func(r *http.Request) { r.Host = "scraped.test" }, 200, "nagaya_hosts"},
		{"to change something", own, func(r *http.Request) { r.Method = http.MethodPost }, 405, ""},
	} {
		status, text, header := asks(t, c, row.url, row.more)
		if status != row.status || !strings.Contains(text, row.text) {
			t.Errorf("%s: status %d, want %d with %q: %.300s", row.name, status, row.status, row.text, text)
		}
		if status == 200 && strings.Contains(row.url, "status.test") && !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: the headers are %v", row.name, header)
		}
	}
	// For a network that nobody here is in.
	must(t, s.WriteConfig(fmt.Sprintf("metrics: {listen: '127.0.0.1:%d'}\npage: {host: lan.test, allow: 192.0.2.0/24}\n", port)+claimConfig))
	out, code, err := s.CLI(t.Context(), "reload")
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v:\n%s", code, err, out)
	}
	until(t, "others are kept out", func() error {
		if status, text, _ := asks(t, c, s.URL("lan.test", "/", true), ann); status != 403 {
			return fmt.Errorf("status %d: %s", status, text)
		}
		return nil
	})
	// For everybody it is none.
	must(t, s.WriteConfig(fmt.Sprintf("metrics: {listen: '127.0.0.1:%d'}\npage: {host: status.test}\n", port)+claimConfig))
	out, code, err = s.CLI(t.Context(), "reload")
	if err != nil || code == 0 || !strings.Contains(out, "page.host: would be open to everybody; set page.auth") {
		t.Errorf("exit code %d, %v:\n%s", code, err, out)
	}
}
