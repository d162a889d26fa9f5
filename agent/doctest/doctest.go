// Package doctest compares the samples of the documents with what the program prints. It
// is for tests alone and is never linked into the program.
package doctest

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// Troubles is the document with the journal's lines.
const Troubles = "docs/troubleshooting.md"

// Read returns a document by its path from the top directory of the repository.
func Read(t testing.TB, file string) string {
	t.Helper()
	top, err := testenv.Top()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(top, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Sample is one command of a document, and what it prints there.
type Sample struct {
	Command string
	Lines   []string
}

// Samples are those of a page: in a block without a language, what follows "$ ".
func Samples(page string) []Sample {
	var all []Sample
	var inBlock, plain, begun bool
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if language, is := strings.CutPrefix(line, "```"); is {
			inBlock = !inBlock
			plain, begun = inBlock && language == "", false
			continue
		}
		if !plain {
			continue
		}
		if command, is := strings.CutPrefix(line, "$ "); is {
			begun = true
			all = append(all, Sample{Command: command})
		} else if begun {
			last := &all[len(all)-1]
			last.Lines = append(last.Lines, line)
		}
	}
	return all
}

var asked = regexp.MustCompile(`NAGAYA_EVENT=([a-z0-9-]+)`)

// Events are the events that the command asks the journal for.
func (s Sample) Events() []string {
	var all []string
	for _, m := range asked.FindAllStringSubmatch(s.Command, -1) {
		all = append(all, m[1])
	}
	return all
}

// prefixed is what journalctl prints before a line, unless it is told to leave it out.
var prefixed = regexp.MustCompile(`^\w{3} \d\d \d\d:\d\d:\d\d \S+ nagaya\[\d+\]: `)

// Logged checks that the page about troubles shows the line for the event. Times, ids and
// numbers of processes may differ; a line there that ends in " …" goes on with more keys.
// A word of the test's own, such as a port or a directory, is replaced first: words are
// pairs of what the line says and what the page says in its place. Where DOCTEST_UPDATE is
// set, the page is corrected instead.
func Logged(t testing.TB, event, line string, words ...string) {
	t.Helper()
	line = strings.NewReplacer(words...).Replace(line)
	var shown []string
	for _, s := range Samples(Read(t, Troubles)) {
		if slices.Contains(s.Events(), event) {
			for _, have := range s.Lines {
				have = prefixed.ReplaceAllString(have, "")
				if same(have, line) {
					return
				}
				if !strings.HasPrefix(have, "░░") {
					shown = append(shown, have)
				}
			}
		}
	}
	if os.Getenv("DOCTEST_UPDATE") != "" && len(shown) > 0 {
		replace(t, nearest(shown, line), line)
		return
	}
	t.Errorf("%s does not show what is logged for %s (DOCTEST_UPDATE=1 corrects it):\n%s\nbut\n%s", Troubles, event, line, strings.Join(shown, "\n"))
}

// nearest is the line that begins most alike.
func nearest(lines []string, line string) string {
	alike := func(s string) int {
		n := 0
		for n < len(s) && n < len(line) && s[n] == line[n] {
			n++
		}
		return n
	}
	return slices.MaxFunc(lines, func(a, b string) int { return cmp.Compare(alike(a), alike(b)) })
}

var (
	longID = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{52}\b`)
	key    = regexp.MustCompile(` [a-z_]+=("(\\.|[^"\\])*"|\S+)`)
)

// replace puts the line in place of another one of the page, with short ids, and with
// as many keys if not all are shown.
func replace(t testing.TB, old, line string) {
	t.Helper()
	line = longID.ReplaceAllString(line, "$1")
	if begin, more := strings.CutSuffix(old, " …"); more {
		if keys := key.FindAllStringIndex(line, -1); len(keys) > len(key.FindAllString(begin, -1)) {
			line = line[:keys[max(1, len(key.FindAllString(begin, -1)))][0]] + " …"
		}
	}
	edit(t, Troubles, func(page string) string { return strings.Replace(page, old+"\n", line+"\n", 1) })
}

// edit changes a document. Tests of several packages do so at the same time.
func edit(t testing.TB, name string, change func(page string) string) {
	t.Helper()
	top, err := testenv.Top()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(top, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(file)
	changed := change(string(page))
	if err == nil {
		_, err = file.WriteAt([]byte(changed), 0)
	}
	if err == nil {
		err = file.Truncate(int64(len(changed)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is corrected", name)
}

// Printed checks that a document shows what the command prints, as Logged does for a line
// of the journal.
func Printed(t testing.TB, file, command, output string) {
	t.Helper()
	page := Read(t, file)
	want := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
	found := false
	for _, s := range Samples(page) {
		if s.Command != command || len(s.Lines) == 0 {
			continue
		}
		found = true
		if slices.EqualFunc(s.Lines, want, same) {
			continue
		}
		if os.Getenv("DOCTEST_UPDATE") == "" {
			t.Errorf("%s does not show what '%s' prints (DOCTEST_UPDATE=1 corrects it):\n%s\nbut\n%s", file, command, output, strings.Join(s.Lines, "\n"))
			continue
		}
		edit(t, file, func(page string) string {
			return strings.Replace(page, "$ "+command+"\n"+strings.Join(s.Lines, "\n")+"\n", "$ "+command+"\n"+strings.Join(want, "\n")+"\n", 1)
		})
	}
	if !found {
		t.Errorf("%s does not show what '%s' prints", file, command)
	}
}

func same(shown, printed string) bool {
	if begin, more := strings.CutSuffix(shown, " …"); more {
		return strings.HasPrefix(Normal(printed), Normal(begin)+" ")
	}
	return Normal(shown) == Normal(printed)
}

// variable are the parts of a text that differ each time, and what stands for them.
var variable = []struct {
	form *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d| [+-]\d{4} [A-Z]+)?`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b(took|after|retry_in)=(\d+(\.\d+)?(ns|µs|ms|s|m|h))+`), "$1=DURATION"},
	{regexp.MustCompile(`\b(pid=|process )\d+\b`), "${1}PID"},
	{regexp.MustCompile(`\b(i|eipalloc|eipassoc|eni|vpc)-([0-9a-f]{8,}|ID)\b`), "$1-ID"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12,64}\b`), "ID"},
}

// Normal replaces times, ids and numbers of processes by words.
func Normal(text string) string {
	for _, v := range variable {
		text = v.form.ReplaceAllString(text, v.as)
	}
	return text
}
