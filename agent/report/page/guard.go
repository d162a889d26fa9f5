package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// headers are those of every answer. The policy lets the page load what this server has, and nothing else; no
// other page may frame it, read it or learn from where it links.
var headers = map[string]string{
	"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// guarded refuses what does not read, and what was sent here under a foreign name.
func (p *page) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "this page only shows; the method is GET")
		case r.ContentLength != 0: // while it is unread, net/http does not see that the client has gone
			refuse(w, http.StatusBadRequest, "a request has no body here")
		case !p.known(r.Host):
			refuse(w, http.StatusMisdirectedRequest, "this server does not go by that name: use its address, localhost or page.host")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// known reports whether a request may name that host. A name that somebody else chose can be made to lead here (DNS
// rebinding), and the browser then lets his page read the answers. An address cannot.
func (p *page) known(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || host != "" && host == p.Host {
		return true
	}
	at, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return false
	}
	listen, _ := netip.ParseAddrPort(p.Listen)
	return at.IsLoopback() || !listen.Addr().IsLoopback()
}

// own refuses the requests that a browser sends for the pages of others.
func (p *page) own(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		_, from, _ := strings.Cut(origin, "://")
		if site != "" && site != "same-origin" && site != "none" || origin != "" && !strings.EqualFold(from, r.Host) {
			refuse(w, http.StatusForbidden, "this is not for the pages of other sites")
			return
		}
		next(w, r)
	}
}

// visited lets in besides who comes by a link from another site, but not that site's own requests and frames.
func (p *page) visited(next http.HandlerFunc) http.HandlerFunc {
	own := p.own(next)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
			next(w, r)
			return
		}
		own(w, r)
	}
}

// refuse answers with what is wrong, as JSON.
func refuse(w http.ResponseWriter, status int, why string) {
	text, _ := json.Marshal(map[string]string{"error": why})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have gone
}

// write answers with a text, compressed for who takes that.
func write(w http.ResponseWriter, r *http.Request, kind string, text []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		_, _ = z.Write(text) // nothing fails in memory
		_ = z.Close()
		w.Header().Set("Content-Encoding", "gzip")
		text = b.Bytes()
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text) // the client may have gone
}

// asset serves a file of the page, which a browser keeps and asks about.
func asset(name string) http.HandlerFunc {
	text, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // a file that was built in
	}
	sum := sha256.Sum256(text)
	tag := `W/"` + hex.EncodeToString(sum[:8]) + `"`
	kind := map[string]string{".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}[path.Ext(name)] + "; charset=utf-8"
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		write(w, r, kind, text)
	}
}
