package apply

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Whatever a client says about itself, a line of the access log is no longer than 4 KiB, over
// HTTP/1.1 and HTTP/2, and says what can be read of it.
func TestLogLinesAreBounded(t *testing.T) {
	t.Run("text", func(t *testing.T) { each(t, func(t *testing.T, r *rig) { testLogLines(t, r, "") }) })
	t.Run("json", func(t *testing.T) { each(t, func(t *testing.T, r *rig) { testLogLines(t, r, "json") }) })
}

func testLogLines(t *testing.T, r *rig, format string) {
	r.settings.AccessLog, r.settings.LogFormat = filepath.Join(r.settings.LogDir, "access.log"), format
	r.run()
	p := writePair(t, "tls.test")
	r.serve(r.table(nestedTable{Sites: []nestedSite{site("plain.test", backend(t, "x")), withTLS(site("tls.test", backend(t, "x")), p, route.Redirect)}}))
	sent := 0
	basic := func(user string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))
	}
	for _, char := range []string{`"`, `\`, "\xff", "ä", "a", "\t"} {
		long := strings.Repeat(char, 7000/len(char))
		referer, agent, by, user := [2]string{"referer", long}, [2]string{"user-agent", long}, [2]string{"x-forwarded-for", long}, [2]string{"authorization", basic(long[:4500])}
		for _, headers := range [][][2]string{{referer}, {agent}, {by}, {user}, {{"authorization", basic(strings.Repeat("\n\x01", 2200))}}, {referer, agent, by, user}} {
			var lines []string
			for _, h := range headers {
				lines = append(lines, h[0]+": "+h[1])
			}
			r.attack(t, attack{sent: ended("plain.test", "/", lines...)})
			r.overHTTP2(t, "tls.test", asked("tls.test", "/", headers...), "")
			sent += 2
		}
		for _, a := range []string{ended(long, "/"), ended("plain.test", "/"+long), strings.Repeat(char, 7000) + "\r\n\r\n"} {
			r.attack(t, attack{sent: a})
		}
		r.overHTTP2(t, "tls.test", asked("tls.test", "/"+long), "")
	}
	r.attack(t, attack{sent: ended("plain.test", "/last?q=1", "Referer: https://a.test/?x", "User-Agent: curl/8 (x)")})
	b, err := os.ReadFile(r.settings.AccessLog)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	longest := 0
	for _, line := range lines {
		longest = max(longest, len(line))
		if format == "json" && !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %.300q", line)
		}
	}
	t.Logf("%d lines, the longest of %d bytes", len(lines), longest)
	if len(lines) < sent || longest > 4096 {
		t.Errorf("%d lines, the longest of %d bytes", len(lines), longest)
	}
	last := lines[len(lines)-1]
	for _, want := range []string{map[string]string{"": `127.0.0.1 - - [`, "json": `"client_ip":"",`}[format], "GET /last?q=1 HTTP/1.1", "https://a.test/?x", "curl/8 (x)"} {
		if !strings.Contains(last, want) {
			t.Errorf("%s is not in %s", want, last)
		}
	}
	if !strings.Contains(string(b), `"`+strings.Repeat("a", 900)+`..."`) {
		t.Error("what is plain is not cut behind 900 bytes")
	}
	if format == "json" && !strings.Contains(string(b), `"`+strings.Repeat("ä", 75)+`..."`) {
		t.Error("a character is cut")
	}
}
