package agent

import (
	"encoding/json"
	"fmt"
	"go/version"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/nginx"
)

var (
	heading    = regexp.MustCompile(`(?m)^(#+) .+$`)
	fence      = regexp.MustCompile("(?ms)^```(.*?)^```$")
	linkTarget = regexp.MustCompile(`\]\(([^)]+)\)`)
	bold       = regexp.MustCompile(`\*\*`)
)

// shape is what two languages of one page have in common.
type shape struct {
	Headings, Blocks, Links []string
	Items, Bold             int
}

func shapeOf(page string) shape {
	var s shape
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		s.Blocks = append(s.Blocks, m[1])
	}
	prose := fence.ReplaceAllString(page, "")
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		s.Headings = append(s.Headings, m[1])
	}
	for _, m := range linkTarget.FindAllStringSubmatch(prose, -1) {
		if !strings.HasPrefix(m[1], "README") {
			s.Links = append(s.Links, m[1])
		}
	}
	s.Items, s.Bold = strings.Count(prose, "\n- "), len(bold.FindAllString(prose, -1))
	return s
}

// The README says the same in both languages: the same headings, commands, links and
// items.
func TestDocsReadTheSameInBothLanguages(t *testing.T) {
	english, japanese := shapeOf(read(t, "../README.md")), shapeOf(read(t, "../README.ja.md"))
	if diff := cmp.Diff(english, japanese); diff != "" {
		t.Errorf("README (-English +Japanese):\n%s", diff)
	}
	if len(english.Blocks) < 4 || len(english.Headings) < 4 {
		t.Errorf("%d blocks and %d headings found; the search is blind", len(english.Blocks), len(english.Headings))
	}
}

// Every link of a document to a file leads somewhere.
func TestDocsLinkToWhatIsThere(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range linkTarget.FindAllStringSubmatch(fence.ReplaceAllString(read(t, file), ""), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target != "" && !strings.Contains(target, "://") && !exists(file, target) {
				t.Errorf("%s: there is no %s", file, target)
			}
		}
	}
}

// The page about security names every statement of the policy with its actions, and
// no other.
func TestDocsOfSecurityNameEveryPermission(t *testing.T) {
	var policy struct {
		Statement []struct {
			Sid    string
			Action any
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../packaging/iam-policy.json")), &policy); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, s := range policy.Statement {
		actions, ok := s.Action.([]any)
		if !ok {
			actions = []any{s.Action}
		}
		var words []string
		for _, a := range actions {
			words = append(words, fmt.Sprintf("`%v`", a))
		}
		want[s.Sid] = strings.Join(words, ", ")
	}
	have := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(read(t, "../docs/security.md"), -1) {
		have[m[1]] = m[2]
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("permissions (-packaging/iam-policy.json +docs/security.md):\n%s", diff)
	}
}

// documents are the pages for people.
func documents(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(all, "../README.md", "../README.ja.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../SECURITY.md", "../packaging/README.md")
}

func exists(page, target string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(page), target))
	return err == nil
}

// What the README says of lost requests names the version from which on nginx keeps idle
// connections through a reload, in both languages.
func TestDocsReadmeSaysWhatAReloadLoses(t *testing.T) {
	for version, keeps := range map[string]bool{"1.27.3": false, "1.27.4": true} {
		b, err := nginx.ParseBuild("nginx version: nginx/" + version + "\nconfigure arguments: --with-http_ssl_module --with-http_realip_module --with-http_stub_status_module\n")
		if err != nil || b.KeepaliveMinTimeout != keeps {
			t.Errorf("nginx %s keeps idle connections: %v, %v", version, b.KeepaliveMinTimeout, err)
		}
	}
	for _, file := range []string{"../README.md", "../README.ja.md"} {
		page := strings.Join(strings.Fields(read(t, file)), " ")
		for _, must := range []string{"1.27.4", "POST", "(docs/figures.md)"} {
			if !strings.Contains(page, must) {
				t.Errorf("%s does not say %q of a reload", file, must)
			}
		}
	}
	if figures := read(t, "../docs/figures.md"); !strings.Contains(figures, "| 1.27.4 and newer | 0 %") {
		t.Error("docs/figures.md has no figure for nginx 1.27.4 and newer")
	}
}

// The page about security names the address at which the metrics are by default.
func TestDocsOfSecurityNameTheMetrics(t *testing.T) {
	if at := "at `" + config.Default().Metrics.Listen + "`"; !strings.Contains(read(t, "../docs/security.md"), at) {
		t.Errorf("docs/security.md does not say that the metrics are %s", at)
	}
}

// The changelog has the form of keepachangelog.com: one section of what is not released, then
// the versions, newest first, each with a date and a link.
func TestDocsChangelogHasItsForm(t *testing.T) {
	if faults := changelogFaults(read(t, "../CHANGELOG.md")); len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
	for _, bad := range []string{
		"# Changelog\n",
		"# Changelog\n## [Unreleased]\n### News\n- x\n[Unreleased]: https://x\n",
		"# Changelog\n## [Unreleased]\n## [0.2.0] - 2026-01-01\n### Added\n- x\n[Unreleased]: https://x\n",
		"# Changelog\n## [Unreleased]\n## [0.1.0]\n### Added\n- x\n[Unreleased]: https://x\n[0.1.0]: https://x\n",
		"# Changelog\n## [Unreleased]\n## [0.1.0] - 2026-01-01\n## [0.2.0] - 2026-02-01\n[Unreleased]: https://x\n[0.1.0]: https://x\n[0.2.0]: https://x\n",
	} {
		if len(changelogFaults(bad)) == 0 {
			t.Errorf("nothing is wrong with %q", bad)
		}
	}
}

var released = regexp.MustCompile(`^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$`)

func changelogFaults(page string) (all []string) {
	fault := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	links := func(name string) {
		if !strings.Contains(page, "\n["+name+"]: https://") {
			fault("[%s] has no link", name)
		}
	}
	sections, last := 0, ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if title, is := strings.CutPrefix(line, "### "); is && !slices.Contains([]string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, title) {
			fault("%s is no kind of change", title)
		}
		if !strings.HasPrefix(line, "## ") {
			continue
		}
		m := released.FindStringSubmatch(line)
		switch {
		case sections == 0 && line == "## [Unreleased]":
			links("Unreleased")
		case sections == 0 || m == nil:
			fault("%q is not the heading of a version", line)
		default:
			links(m[1])
			if last != "" && version.Compare("go"+last, "go"+m[1]) <= 0 {
				fault("%s is not older than %s", m[1], last)
			}
			last = m[1]
		}
		sections++
	}
	if sections == 0 {
		fault("it has no section")
	}
	return all
}
