package page

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/chromium"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

var pictures = flag.String("pictures", "", "write pictures of the page into this `directory`, for the eye")

// hurried has the page's intervals pass a hundred times as fast, notes how long they would be, and lets the test hide the page.
const hurried = `
var intervals = [], passed = 0, covered = false;
const slowly = setInterval;
performance.setResourceTimingBufferSize(100000);
window.setInterval = (f, ms) => { intervals.push(ms); return slowly(() => { passed++; f(); }, ms / 100); };
Object.defineProperty(document, 'hidden', { get: () => covered });`

// served is the page of an agent whose status a test changes.
type served struct {
	mu     sync.Mutex
	status report.Status
	url    string
	close  func()
}

func serve(t *testing.T, hosts int) *served {
	t.Helper()
	was := noon
	noon = time.Now().UTC()
	s := &served{status: sample(hosts)}
	noon = was
	server := httptest.NewServer(New(Options{Listen: "127.0.0.1:9646", Past: year{}, Status: func() report.Status {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.status
	}}))
	s.url, s.close = server.URL, server.Close
	t.Cleanup(server.Close)
	return s
}

func (s *served) change(f func(*report.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// A visitor reads the state, looks at a moment in all plots, at another range and at one host, and sees what changes.
func TestAVisitor(t *testing.T) {
	s := serve(t, 200)
	tab := chromium.Start(t).Open(t, chromium.Look{Width: 1440, Height: 900, Before: hurried})
	for range 3 {
		tab.Visit(s.url)
		t.Logf("first paint after %s, with 200 hosts and a year of history", tab.FirstPaint().Round(time.Millisecond))
	}

	text := func(id string) string {
		return chromium.Eval[string](tab, fmt.Sprintf("document.getElementById(%q).textContent", id))
	}
	if got := text("state-lines"); !strings.Contains(got, "203.0.113.10 is held here") {
		t.Errorf("the state is %q", got)
	}
	if got := text("problems"); !strings.Contains(got, "<img src=x onerror=alert(1)>") {
		t.Errorf("the problems are %q", got)
	}
	if n := chromium.Eval[int](tab, "document.images.length"); n != 0 {
		t.Errorf("%d images came out of names", n)
	}

	const moment = `[...document.querySelectorAll('#plots .u-legend .u-series:first-child .u-value')].map((e) => e.textContent)`
	tab.Until("document.querySelectorAll('#plots canvas').length >= 4")
	tab.Point("#plots .u-over", -100, 0)
	// One look: an update may draw the plots again between two.
	tab.Until("((all) => new Set(all).size === 1 && /^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d$/.test(all[0]))(" + moment + ")")

	tab.Click(`.ranges [data-since="366d"]`)
	tab.Until(`document.querySelector('.ranges [aria-current]').dataset.since === '366d'`)
	tab.Until(`performance.getEntriesByType('resource').some((e) => e.name.endsWith('since=366d') && e.responseEnd > 0)`)
	tab.Until(`document.querySelector('#hosts thead').textContent.includes('In the last year') && document.querySelector('#events h2').textContent.includes('year')`)
	tab.Point("#plots .u-over", -500, 0)
	tab.Until(fmt.Sprintf("%s.every((at) => at < '%s')", moment, time.Now().AddDate(0, -6, 0).Format(time.DateOnly)))

	const shown = `[...document.querySelectorAll('#host-rows tr')].filter((r) => r.offsetHeight > 0).length`
	tab.Type("#find", "H42.")
	tab.Until(shown + " === 1")
	if got := text("found"); got != "1 of 200" {
		t.Errorf("found %q", got)
	}

	s.change(func(now *report.Status) {
		now.Problems = nil
		now.Credit.Balance = 4.25
	})
	tab.Until(`document.getElementById('problems').textContent.includes('none')`)
	if n := chromium.Eval[int](tab, shown); n != 1 {
		t.Errorf("after an update %d hosts are shown", n)
	}
	if every := chromium.Eval[[]float64](tab, "intervals"); len(every) != 1 || every[0] < 15000 {
		t.Errorf("it asks every %v ms, want 15000 and nothing else", every)
	}

	// Nothing is asked for a page that nobody sees. What was asked before it was hidden has come when two more intervals have passed.
	chromium.Eval[bool](tab, "covered = true")
	after := func(n int) []string {
		tab.Until(fmt.Sprintf("passed >= %d", chromium.Eval[int](tab, "passed")+n))
		return tab.Asked()
	}
	if before, then := after(2), after(3); len(then) > len(before) {
		t.Errorf("hidden, it asked for %q", then[len(before):])
	}
	if faults := tab.Faults(); len(faults) > 0 {
		t.Errorf("faults: %q", faults)
	}

	// An agent that is gone is said, and what is shown stays.
	chromium.Eval[bool](tab, "(covered = false, true)")
	s.close()
	tab.Until("document.getElementById('silent').offsetHeight > 0")
	if n := chromium.Eval[int](tab, shown); n != 1 {
		t.Errorf("without an agent %d hosts are shown", n)
	}
}

// Who has no scripts has the same as text.
func TestAVisitorWithoutScripts(t *testing.T) {
	s := serve(t, 20)
	tab := chromium.Start(t).Open(t, chromium.Look{Width: 800, Height: 900, NoScripts: true})
	tab.Visit(s.url)
	tab.Click("#data summary")
	for what, want := range map[string]bool{
		"document.querySelectorAll('#host-rows tr').length === 20": true,
		"document.querySelectorAll('#data tbody tr').length > 48":  true,
		"document.querySelector('#data table').offsetHeight > 100": true,
		"document.getElementById('plots').offsetHeight > 0":        false,
		"document.querySelector('.search').offsetHeight > 0":       false,
		"document.querySelectorAll('#jobs tbody tr').length === 2": true,
	} {
		if got := chromium.Eval[bool](tab, what); got != want {
			t.Errorf("%s is %v", what, got)
		}
	}
	tab.Visit(chromium.Eval[string](tab, `document.querySelector('.ranges [data-since="1w"]').href`))
	if got := chromium.Eval[string](tab, "document.querySelector('.ranges [aria-current]').dataset.since"); got != "1w" {
		t.Errorf("the range is %q", got)
	}
	if faults := tab.Faults(); len(faults) > 0 {
		t.Errorf("faults: %q", faults)
	}
}

// The page has its place on a telephone and on a wide screen, in the light and in the dark.
func TestAnyScreen(t *testing.T) {
	s := serve(t, 12)
	b := chromium.Start(t)
	for _, width := range []int64{360, 1440} {
		for _, dark := range []bool{false, true} {
			look := chromium.Look{Width: width, Height: 900, Dark: dark}
			tab := b.Open(t, look)
			tab.Visit(s.url)
			tab.Until("document.querySelectorAll('#plots canvas').length >= 4")
			if n := tab.Sideways(); n > 0 {
				t.Errorf("%+v: %d pixels are beyond the edge", look, n)
			}
			if faults := tab.Faults(); len(faults) > 0 {
				t.Errorf("%+v: faults %q", look, faults)
			}
			if *pictures == "" {
				continue
			}
			name := fmt.Sprintf("page-%d-%s.png", width, map[bool]string{false: "light", true: "dark"}[dark])
			if err := os.WriteFile(filepath.Join(*pictures, name), tab.Picture(true), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
