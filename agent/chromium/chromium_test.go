package chromium

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const small = `<!doctype html><html lang="en"><title>small</title>
<link rel="icon" href="data:,">
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } } #wide { width: 500px }</style>
<p id="at">outside</p><p id="written"></p><p id="wide">wide</p>
<input id="word"><button id="press">press</button>
<script>
const $ = (id) => document.getElementById(id);
$('at').addEventListener('mousemove', () => { $('at').textContent = 'inside'; });
$('press').addEventListener('click', () => { setTimeout(() => { $('written').textContent = $('word').value; }, 50); });
</script>`

// What the aid tells is what a small page is and does.
func TestVisitor(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, small)
	}))
	defer site.Close()
	b := Start(t)

	tab := b.Open(t, Look{Width: 360, Height: 300, Dark: true, Scale: 2, Before: "const early = 7;"})
	tab.Visit(site.URL)
	if d := tab.FirstPaint(); d <= 0 || d > patience {
		t.Errorf("painted after %s", d)
	}
	tab.Point("#at", 5, 0)
	tab.Until(`document.getElementById('at').textContent === 'inside'`)
	tab.Type("#word", "hello")
	tab.Click("#press")
	tab.Until(`document.getElementById('written').textContent === 'hello'`)
	if n := tab.Sideways(); n < 100 {
		t.Errorf("a page that is too wide is %d pixels too wide", n)
	}
	if got := Eval[string](tab, `getComputedStyle(document.body).backgroundColor`); got != "rgb(0, 0, 0)" {
		t.Errorf("in the dark the page is %s", got)
	}
	if got := Eval[int](tab, "early"); got != 7 {
		t.Errorf("what runs before the page's scripts: %d", got)
	}
	picture, err := png.DecodeConfig(bytes.NewReader(tab.Picture(false)))
	if err != nil || picture.Width != 720 || picture.Height != 600 {
		t.Errorf("a picture of %d x %d, %v", picture.Width, picture.Height, err)
	}
	if faults := tab.Faults(); len(faults) > 0 {
		t.Errorf("faults of a good page: %q", faults)
	}
	if asked := tab.Asked(); !slices.Contains(asked, site.URL+"/") {
		t.Errorf("asked for %q", asked)
	}

	mute := b.Open(t, Look{Width: 1000, Height: 300, NoScripts: true})
	mute.Visit(site.URL)
	mute.Click("#press")
	if got := Eval[string](mute, `typeof $`); got != "undefined" {
		t.Errorf("a script ran: %s", got)
	}
	if n := mute.Sideways(); n != 0 {
		t.Errorf("a page that fits is %d pixels too wide", n)
	}
}

// It sees what a page should not do.
func TestFaults(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	b := Start(t)
	for _, row := range []struct {
		name, policy, body string
		want               string // part of a fault
	}{
		{"an error of the console", "", `<script>console.error('it burns', 7)</script>`, `console.error: "it burns" 7`},
		{"an exception", "", `<script>null.x()</script>`, "TypeError"},
		{"a promise that nobody hears", "", `<script>Promise.reject(new Error('unheard'))</script>`, "unheard"},
		{"a script that the policy forbids", "script-src 'none'", `<script>1</script>`, "Content Security Policy"},
		{"a style that the policy forbids", "style-src 'none'", `<p style="color: red">x</p>`, "Content Security Policy"},
		{"a file that is missing", "", `<img src="/missing.png">`, "404"},
		{"another origin", "", `<img src="` + other.URL + `/a.png">`, "a request to another origin: " + other.URL},
	} {
		t.Run(row.name, func(t *testing.T) {
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				if row.policy != "" {
					w.Header().Set("Content-Security-Policy", row.policy)
				}
				fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>bad</title><p>bad</p>`, row.body)
			}))
			defer site.Close()
			tab := b.Open(t, Look{Width: 800, Height: 300})
			tab.Visit(site.URL)
			seen := func() bool {
				return slices.ContainsFunc(tab.Faults(), func(f string) bool { return strings.Contains(f, row.want) })
			}
			for n := 1; !seen() && n < 200; n++ { // the browser may tell of it later than that the page is loaded
				tab.Until(fmt.Sprintf("performance.now() > %d", n*100))
			}
			if !seen() {
				t.Errorf("faults %q, want %q", tab.Faults(), row.want)
			}
		})
	}
}
