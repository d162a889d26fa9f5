// Package chromium has a real browser visit pages in tests: Debian's Chromium without a screen, driven by its DevTools
// protocol. It is for tests alone and is never linked into the program.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// patience is how long anything in a browser may take: much longer than on a busy machine under the race detector.
const patience = 3 * time.Minute

// Browser is one process of Chromium with a profile of its own.
type Browser struct{ ctx context.Context }

// Start starts a browser, which ends with the test. Debian's chromium-headless-shell is enough for it, and half as large
// as its chromium.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium-headless-shell")
	if err != nil {
		path, err = exec.LookPath("chromium")
	}
	testenv.Need(t, err)
	// Not the test's own directory: a process of the browser that ends last may write there while the test removes it.
	home, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	testenv.EndWithTest(home)
	ctx, cancel := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(
		// Its sandbox takes what containers and root do not have; it visits pages of the test alone.
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Env("HOME="+home),
	))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // it is asked to end, and it is killed if it does not
		cancel()
		_ = os.RemoveAll(home)
	})
	b := &Browser{ctx}
	if err := within(ctx, func(ctx context.Context) error { return chromedp.Do(ctx) }); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return b
}

// within bounds what is done in a browser.
func within(ctx context.Context, do func(context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- do(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return errors.New("the browser does not answer")
	}
}

// Look is how a visitor sees a page.
type Look struct {
	// Width and Height are those of the window, in pixels of CSS.
	Width, Height int64
	// Scale is how many pixels of a picture one of CSS has; 0 is 1.
	Scale float64
	// Dark prefers dark colours.
	Dark bool
	// NoScripts has the page's scripts do nothing. Those of the test do.
	NoScripts bool
	// Before is a script that runs in each document before those of the page.
	Before string
}

// Tab is a page of a browser, with a profile of its own.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	origin string
	asked  []string
	faults []string
}

// Open opens a tab, which is closed with the test.
func (b *Browser) Open(t testing.TB, look Look) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	tab := &Tab{t: t, ctx: ctx}
	scheme := "light"
	if look.Dark {
		scheme = "dark"
	}
	if look.Scale == 0 {
		look.Scale = 1
	}
	tab.do("opening a tab", func(ctx context.Context) error {
		err := chromedp.Listen(ctx, tab.note)
		if err == nil {
			_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		}
		if err == nil {
			_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: look.NoScripts})
		}
		if err == nil && look.Before != "" {
			_, err = chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: look.Before})
		}
		if err == nil {
			err = chromedp.Do(ctx, chromedp.EmulateViewport(look.Width, look.Height, chromedp.EmulateScale(look.Scale)))
		}
		return err
	})
	return tab
}

// do does something in the tab, and ends the test if that fails.
func (tab *Tab) do(what string, do func(context.Context) error) {
	tab.t.Helper()
	if err := within(tab.ctx, do); err != nil {
		tab.t.Fatalf("%s: %v; faults: %q", what, err, tab.Faults())
	}
}

// note keeps what a page should not do, and what it asked for.
func (tab *Tab) note(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	fault := func(format string, args ...any) { tab.faults = append(tab.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			text := ""
			for _, a := range e.Args {
				text += " " + string(a.Value) + a.Description
			}
			fault("console.%s:%s", e.Type, text)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		fault("an exception: %s", text)
	case *log.EventEntryAdded: // what violates the Content-Security-Policy, and what cannot be loaded, among others
		// A network interface that comes or goes, such as a container's, breaks off requests: not the page's doing.
		ofHost := strings.Contains(e.Entry.Text, "net::ERR_NETWORK_CHANGED")
		if !ofHost && (e.Entry.Level == "error" || e.Entry.Level == "warning") {
			fault("%s (%s) %s", e.Entry.Text, e.Entry.Source, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme+"://"+u.Host != tab.origin && u.Scheme != "data" && u.Scheme != "blob" {
			fault("a request to another origin: %s", e.Request.URL)
		}
		tab.asked = append(tab.asked, e.Request.URL)
	}
}

// Faults are errors and warnings of the console, exceptions, violations of the Content-Security-Policy, and requests to
// another origin than the page's, so far.
func (tab *Tab) Faults() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.faults)
}

// Asked are the addresses that were asked for so far.
func (tab *Tab) Asked() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.asked)
}

// Visit loads a page, until all that it has is loaded.
func (tab *Tab) Visit(address string) {
	tab.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tab.t.Fatal(err)
	}
	tab.mu.Lock()
	tab.origin = u.Scheme + "://" + u.Host
	tab.mu.Unlock()
	tab.do("loading "+address, func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.Navigate(address)) })
}

// Eval returns what an expression of JavaScript is on the page.
func Eval[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	var value T
	tab.do(expression, func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression))
		return err
	})
	return value
}

// Until waits until an expression is true, looking at each frame that is drawn.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	tab.do("waiting until "+expression, func(ctx context.Context) error {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingTimeout(patience)))
		return err
	})
}

// Point moves the cursor to the middle of what a selector names, and by so many pixels beyond that.
func (tab *Tab) Point(selector string, right, down float64) {
	tab.t.Helper()
	at := Eval[[]float64](tab, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({ block: 'nearest' });
		const r = e.getBoundingClientRect();
		return [r.x + r.width / 2, r.y + r.height / 2];
	})()`, selector))
	tab.do("moving the cursor", func(ctx context.Context) error {
		return chromedp.Do(ctx, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0]+right, at[1]+down))
	})
}

// Click clicks on the first element that a selector names.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do("clicking on "+selector, func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))) })
}

// Type types a text into the first element that a selector names.
func (tab *Tab) Type(selector, text string) {
	tab.t.Helper()
	tab.do("typing into "+selector, func(ctx context.Context) error {
		return chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(selector), text))
	})
}

// FirstPaint is how long after the navigation began the page first showed something.
func (tab *Tab) FirstPaint() time.Duration {
	tab.t.Helper()
	const paint = `performance.getEntriesByName('first-contentful-paint')`
	tab.Until(paint + ".length > 0")
	return time.Duration(Eval[float64](tab, paint+"[0].startTime") * float64(time.Millisecond))
}

// Sideways is by how many pixels the page is wider than its window.
func (tab *Tab) Sideways() int {
	tab.t.Helper()
	return Eval[int](tab, "document.documentElement.scrollWidth - document.documentElement.clientWidth")
}

// Picture is the window as PNG, or the whole page.
func (tab *Tab) Picture(whole bool) []byte {
	tab.t.Helper()
	var png []byte
	take := chromedp.CaptureScreenshot()
	if whole {
		take = chromedp.FullScreenshot(100)
	}
	tab.do("taking a picture", func(ctx context.Context) (err error) {
		png, err = chromedp.Run(ctx, take)
		return err
	})
	return png
}
