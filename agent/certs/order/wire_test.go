package order

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
)

// onWire is a CA behind a real socket, which counts the requests. Its certificate is valid in the year of synctest's clock.
type onWire struct {
	*httptest.Server
	roots string
	// lie answers a request instead of the CA, which checks nothing, if it returns true. It is asked for "dir", "nonce", …
	lie func(w http.ResponseWriter, what string) bool

	mu       sync.Mutex
	requests []string
	orders   []map[string]any
	csrs     map[string][]byte // by the number of the order
	issue    func(csr []byte) (string, error)
}

func startOnWire(t *testing.T, lie func(w http.ResponseWriter, what string) bool) *onWire {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := &onWire{roots: filepath.Join(t.TempDir(), "roots.pem"), lie: lie, csrs: map[string][]byte{}}
	if err := os.WriteFile(c.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Server = httptest.NewUnstartedServer(c)
	c.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	c.Config.SetKeepAlivesEnabled(false)     // a connection that waits for requests keeps synctest's clock from going on,
	c.Config.ReadHeaderTimeout = time.Second // also one that was made for a request that was given up
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// ServeHTTP notes the request and answers it as RFC 8555 has it.
func (c *onWire) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	what, n, _ := strings.Cut(path.Base(r.URL.Path), "-") // with the number of the order
	var order map[string]any
	if i, err := strconv.Atoi(n); err == nil && i < len(c.orders) {
		order = c.orders[i]
	}
	c.requests = append(c.requests, what)
	w.Header().Set("Replay-Nonce", fmt.Sprintf("nonce-%d", len(c.requests)))
	if c.lie(w, what) {
		return
	}
	put := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	var jws, payload struct{ Payload, CSR string }
	_ = json.Unmarshal(body, &jws)
	said, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	at := c.URL + "/"
	switch what {
	case "dir":
		put(200, map[string]any{"newNonce": at + "nonce", "newAccount": at + "account", "newOrder": at + "orders", "renewalInfo": at + "renewal"})
	case "nonce":
	case "account":
		w.Header().Set("Location", at+"account/1")
		put(201, map[string]any{"status": "valid"})
	case "orders":
		var asked struct {
			Identifiers []any `json:"identifiers"`
		}
		_ = json.Unmarshal(said, &asked)
		n := fmt.Sprint("-", len(c.orders))
		order = map[string]any{
			"status": "pending", "expires": "2100-01-01T00:00:00Z", "finalize": at + "finalize" + n, "certificate": at + "cert" + n,
			"identifiers": asked.Identifiers, "authorizations": []string{at + "auth" + n},
		}
		c.orders = append(c.orders, order)
		w.Header().Set("Location", at+"order"+n)
		put(201, order)
	case "auth":
		ids, _ := order["identifiers"].([]any)
		put(200, map[string]any{
			"status": "pending", "identifier": ids[0],
			"challenges": []any{map[string]any{"type": "http-01", "status": "pending", "url": at + "challenge-" + n, "token": "tok-en_" + n}},
		})
	case "challenge":
		order["status"] = "ready"
		put(200, map[string]any{"type": "http-01", "status": "processing"})
	case "finalize":
		_ = json.Unmarshal(said, &payload)
		c.csrs[n], _ = base64.RawURLEncoding.DecodeString(payload.CSR)
		order["status"] = "valid"
		put(200, order)
	case "order":
		put(200, order)
	case "cert":
		chain, err := c.issue(c.csrs[n])
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		fmt.Fprint(w, chain)
	default:
		http.Error(w, "{}", 404)
	}
}

func (c *onWire) asked() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]int{}
	for _, what := range c.requests {
		all[what]++
		all["all"]++
	}
	return all
}

// An agent that crashes again and again makes 30 requests in an hour at most, whatever the CA does, by what arrives there.
func TestCrashLoopOnTheWire(t *testing.T) {
	at := func(failing string, answer func(w http.ResponseWriter)) func(http.ResponseWriter, string) bool {
		return func(w http.ResponseWriter, what string) bool {
			if failing != "all" && what != failing {
				return false
			}
			answer(w)
			return true
		}
	}
	refuse := func(status int, kind string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","status":%d}`, kind, status)
		}
	}
	later := func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "600")
		refuse(429, "rateLimited")(w)
	}
	malformed := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":`)
	}
	for name, lie := range map[string]func(http.ResponseWriter, string) bool{
		"it works":                func(http.ResponseWriter, string) bool { return false },
		"503":                     at("all", refuse(503, "serverInternal")),
		"503 to orders":           at("orders", refuse(503, "serverInternal")),
		"503 to the last step":    at("finalize", refuse(503, "serverInternal")),
		"429 to all":              at("all", later),
		"429 to orders":           at("orders", later),
		"429 to the last step":    at("finalize", later),
		"malformed":               at("all", malformed),
		"malformed orders":        at("orders", malformed),
		"a malformed certificate": at("cert", malformed),
		"nonces":                  at("orders", refuse(400, "badNonce")),
		"refused":                 at("orders", refuse(403, "unauthorized")),
		"no account":              at("account", refuse(403, "unauthorized")),
	} {
		t.Run(name, func(t *testing.T) {
			c := startOnWire(t, lie)
			roots := c.roots
			inBubble(t, func(w *world) {
				c.issue = func(csr []byte) (string, error) {
					return w.ca.sign(csr, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2000, 3, 1, 0, 0, 0, 0, time.UTC))
				}
				draw := mathrand.New(mathrand.NewPCG(1, 30))
				a := w.instance("a")
				end, starts := time.Now().Add(time.Hour-2*time.Second), 0 // ledgers count in seconds
				for time.Now().Before(end) {
					before := c.asked()["all"]
					ca, err := acme.New(acme.Options{Directory: c.URL + "/dir", RootsFile: roots, UserAgent: "nagaya/test"}) // a new process knows no directory
					if err != nil {
						t.Fatal(err)
					}
					a.wire, a.o.Settings.Directories = ca, []string{c.URL + "/dir"}
					a.o.CAs = map[string]CA{c.URL + "/dir": mortalCA{a}}
					a.note(func() { a.dies, a.late = a.calls+1+draw.IntN(60), draw.IntN(2) == 0 })
					a.start(true, "a.test")
					after(min(time.Duration(draw.Int64N(int64(20*time.Second))), time.Until(end)))
					a.kill()
					if c.asked()["all"] > before {
						starts++
					}
				}
				// A process of its own asks for the directory too, which acmez keeps for all that this one starts.
				n := c.asked()
				all := n["all"] + starts - min(starts, n["dir"])
				if t.Logf("%d requests of %d agents: %v", all, starts, n); all > 30 {
					t.Errorf("%d requests in an hour", all)
				}
			})
		})
	}
}
