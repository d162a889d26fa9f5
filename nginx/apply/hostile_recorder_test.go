package apply

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// records has what the containers of a test got, in their order, and what is wrong with it.
type records struct {
	sync.Mutex
	got, faults []string
}

// heard returns what was recorded since it was called last.
func (c *records) heard() (got, faults []string) {
	c.Lock()
	defer c.Unlock()
	got, faults, c.got, c.faults = c.got, c.faults, nil, nil
	return got, faults
}

// expect checks the status of an answer, and what containers got meanwhile, each against what may be,
// with | between.
func (c *records) expect(t *testing.T, status, wantStatus, wantGot string) {
	t.Helper()
	got, faults := c.heard()
	if !slices.Contains(strings.Split(wantStatus, "|"), status) {
		t.Errorf("answered with %q, want %q", status, wantStatus)
	}
	if !slices.Contains(strings.Split(wantGot, "|"), strings.Join(got, "; ")) {
		t.Errorf("containers got %q, want %q", got, wantGot)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// recorder is the container of one site. It reads requests from the bytes that nginx sends,
// by the letter of RFC 9112, and says what a careless application could understand otherwise.
type recorder struct {
	*records
	name, host string
	// locked is a path that the site guards by a password, beside this container's.
	locked string
}

// recorder starts one.
func (c *records) recorder(t *testing.T, name, host, locked string) netip.AddrPort {
	t.Helper()
	return testenv.Accept(t, recorder{c, name, host, locked}.attend)
}

func (w recorder) attend(conn net.Conn) {
	for in := bufio.NewReader(conn); ; {
		head, err := readHead(in)
		if err != nil {
			if head != "" {
				w.record("half a request", []string{fmt.Sprintf("ends within a head: %q", head)})
			}
			return
		}
		r := parseHead(head)
		faults := append(r.faults, w.judge(r)...)
		if err := r.skipBody(in); err != nil {
			faults = append(faults, fmt.Sprintf("body: %v", err))
		}
		w.record(r.method+" "+r.target, faults)
		status := "200 OK"
		if strings.HasPrefix(r.target, "/refuse") {
			status = "426 Upgrade Required"
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(w.name), w.name); err != nil {
			return
		}
	}
}

func (w recorder) record(what string, faults []string) {
	w.Lock()
	defer w.Unlock()
	w.got = append(w.got, w.name+" "+what)
	for _, f := range faults {
		w.faults = append(w.faults, fmt.Sprintf("%s got %q: %s", w.name, what, f))
	}
}

// readHead reads up to an empty line.
func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

// received is a request as its bytes say it.
type received struct {
	method, target string
	names          []string // in small letters
	values         map[string][]string
	faults         []string
}

func parseHead(head string) received {
	r := received{values: map[string][]string{}}
	bad := func(format string, a ...any) { r.faults = append(r.faults, fmt.Sprintf(format, a...)) }
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || !strings.HasPrefix(words[2], "HTTP/1.") {
		bad("the request line is %q", lines[0])
		words = append(words, "", "")
	}
	r.method, r.target = words[0], words[1]
	if !strings.HasPrefix(r.target, "/") {
		bad("the target is %q", r.target)
	}
	for _, line := range lines {
		if i := strings.IndexFunc(line, func(c rune) bool { return c == 0 || c == '\r' || c == '\n' }); i >= 0 {
			bad("a line may be read as two: %q", line)
		}
	}
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t_") {
			bad("a header's name may be read otherwise: %q", line)
		}
		name = strings.ToLower(name)
		r.names = append(r.names, name)
		r.values[name] = append(r.values[name], strings.Trim(value, " \t"))
	}
	return r
}

// judge returns what of a request should not have reached this container.
func (w recorder) judge(r received) (faults []string) {
	bad := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	length, coding := r.values["content-length"], r.values["transfer-encoding"]
	if len(length)+len(coding) > 1 || len(coding) == 1 && coding[0] != "chunked" {
		bad("its length may be read in two ways: Content-Length %q, Transfer-Encoding %q", length, coding)
	}
	hosts := r.values["host"]
	if name, _, _ := strings.Cut(strings.Join(hosts, " and "), ":"); name != w.host {
		bad("it is for %q and not for %s", hosts, w.host)
	}
	for _, name := range []string{"x-real-ip", "x-forwarded-for"} {
		if got := r.values[name]; !slices.Equal(got, []string{"127.0.0.1"}) {
			bad("%s is %q", name, got)
		}
	}
	if got := r.values["x-forwarded-host"]; !slices.Equal(got, hosts) {
		bad("x-forwarded-host is %q", got)
	}
	if got := r.values["x-original-uri"]; !slices.Equal(got, []string{r.target}) {
		bad("x-original-uri is %q", got)
	}
	for name, values := range r.values {
		if strings.Contains(strings.Join(values, " "), "forged") {
			bad("%s is the client's: %q", name, values)
		}
	}
	if got := r.values["upgrade"]; len(got) > 1 || len(got) == 1 && got[0] != "websocket" {
		bad("upgrade is %q", got)
	}
	if w.locked == "" {
		return faults
	}
	for reading := range readings(r.target) {
		if reading == w.locked || strings.HasPrefix(reading, w.locked+"/") {
			bad("without a password it may be read as %s", reading)
		}
	}
	return faults
}

// readings are what applications may take the path of a request for: with its escapes
// resolved or not, with or without what follows a semicolon (Java), cut at a number sign,
// with backslashes as slashes, with dots resolved or not, and after one another.
func readings(target string) map[string]bool {
	target, _, _ = strings.Cut(target, "?")
	all := map[string]bool{}
	var add func(p string, decoded bool, depth int)
	add = func(p string, decoded bool, depth int) {
		all[p] = true
		if depth == 0 {
			return
		}
		if plain, err := url.PathUnescape(p); err == nil && !decoded {
			add(plain, true, depth-1)
		}
		before, _, _ := strings.Cut(p, "#")
		segments := strings.Split(p, "/")
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
		for _, q := range []string{before, path.Clean("/" + p), strings.ReplaceAll(p, `\`, "/"), strings.Join(segments, "/")} {
			if q != p {
				add(q, decoded, depth-1)
			}
		}
	}
	add(target, false, 5)
	return all
}

// skipBody reads a body to its end.
func (r received) skipBody(in *bufio.Reader) error {
	if r.values["transfer-encoding"] == nil {
		n, err := strconv.ParseInt(strings.Join(append(r.values["content-length"], "")[:1], ""), 10, 64)
		if len(r.values["content-length"]) == 0 {
			n, err = 0, nil
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, in, n)
		}
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, in, size+2); err != nil || size == 0 {
			return err
		}
	}
}
