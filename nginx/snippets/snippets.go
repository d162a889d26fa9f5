// Package snippets is the source of the operator's own files: nginx directives and
// password files.
package snippets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Bounds of what is read.
const (
	maxSnippets    = 2000
	maxSnippetSize = 1 << 20 // bytes, of one file with all that it includes
	maxTotal       = 8 << 20 // bytes, of all
	maxIncluded    = 100     // files that one includes
)

// Options are the directories of the operator's own files; an empty one is none.
type Options struct {
	// Own has the directories http.d, stream.d, site.d and location.d.
	Own string
	// Vhost is a directory like nginx-proxy's vhost.d, Conf one like its conf.d.
	Vhost string
	Conf  string
	// Etc may have the files nginx.InternalFile and nginx.ProxyFile.
	Etc string
	// Passwords is the directory of password files.
	Passwords string
	// Every is how often the files are listed; default 10 s.
	Every time.Duration
	// Now has them listed at once; may be nil.
	Now <-chan struct{}
	// Problems is called when what cannot be listed changes; may be nil.
	Problems func([]problem.Problem)
	// Log gets what cannot be read; nil discards it.
	Log *slog.Logger
}

// Configured are the options of the configuration alone.
func Configured(c config.Config) Options {
	o := Options{Own: c.Nginx.SnippetDir, Vhost: c.Nginx.VhostDir, Conf: c.Nginx.ConfDir, Passwords: c.Nginx.HtpasswdDir}
	if c.NginxProxy {
		o.Etc = nginxproxy.ConfigDir
	}
	return o
}

// Watch lists the files until ctx ends, and puts them when they have changed. While
// a directory cannot be read, nothing is put: that must not change how sites
// behave. It is a problem.
func Watch(ctx context.Context, o Options, put func(nginx.OperatorFiles)) error {
	o.Every = cmp.Or(o.Every, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	put = latest.Distinct(put)
	tell := latest.Distinct(func(why string) {
		if why != "" {
			o.Log.Warn("operator's nginx files could not be read", event.Key, event.SnippetsUnreadable, "err", why)
		}
		if o.Problems != nil {
			o.Problems(problemsOf(why))
		}
	})
	for {
		files, err := List(o)
		if err == nil {
			put(files)
			tell("")
		} else {
			tell(err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.Now:
		case <-time.After(o.Every):
		}
	}
}

func problemsOf(why string) []problem.Problem {
	if why == "" {
		return nil
	}
	return []problem.Problem{problem.Of("nginx", "snippets-unlisted", "let the agent's user read the directory that the message names",
		"the operator's files for nginx cannot be listed (%s): those that were read before stay in force, and where the agent has read none since its start, nothing is loaded", why)}
}

// List lists the files once.
func List(o Options) (nginx.OperatorFiles, error) {
	snippets, err := listSnippets(o)
	if err != nil {
		return nginx.OperatorFiles{}, err
	}
	passwords, err := listPasswords(o.Passwords)
	return nginx.OperatorFiles{Snippets: snippets, Passwords: passwords}, err
}

// listSnippets lists the operator's own files, each with the SHA-256 of
// its content. A missing directory has none.
func listSnippets(d Options) ([]nginx.Snippet, error) {
	sources := []source{{d.Conf, "http.d", ".conf"}, {d.Vhost, "vhost.d", ""}, {d.Etc, "etc", nginx.InternalFile}, {d.Etc, "etc", nginx.ProxyFile}}
	if d.Own != "" {
		for _, sub := range []string{"http.d", "stream.d", "site.d", "location.d"} {
			sources = append(sources, source{filepath.Join(d.Own, sub), sub, ".conf"})
		}
	}
	var out []nginx.Snippet
	total := 0
	for _, s := range sources {
		found, err := s.list()
		if err != nil {
			return nil, err
		}
		for i, sn := range found {
			if total += len(sn.Text); total > maxTotal {
				found[i] = unreadable(sn.Path, fmt.Errorf("with the files before it, it is larger than %d bytes", maxTotal))
				found[i].Name, total = sn.Name, total-len(sn.Text)
			}
		}
		if out = append(out, found...); len(out) > maxSnippets {
			return nil, fmt.Errorf("there are more than %d snippets: remove what is not needed", maxSnippets)
		}
	}
	return out, nil
}

// source is a directory whose files with that suffix are snippets of the directory as.
type source struct{ dir, as, suffix string }

// hides reports whether a name with a dot in front is not that of a host as nginx writes it.
func (s source) hides(name string) bool {
	rest, dot := strings.CutPrefix(name, ".")
	return dot && (s.suffix != "" || !pattern.Host(rest))
}

func (s source) list() ([]nginx.Snippet, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing snippets: %w", err)
	}
	var out []nginx.Snippet
	for _, e := range entries {
		if s.as == "etc" && e.Name() != s.suffix {
			continue
		}
		file := filepath.Join(s.dir, e.Name())
		if isDir(e, file) || !strings.HasSuffix(e.Name(), s.suffix) || s.hides(e.Name()) || e.Name() == "default.conf" {
			continue // packages and images of nginx bring a default.conf with a welcome page
		}
		sn, err := read(file)
		if errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink == 0 {
			return nil, fmt.Errorf("removed or replaced while it was read: %w", err)
		}
		if err != nil {
			sn = unreadable(file, err)
		}
		sn.Name = s.as + "/" + e.Name()
		out = append(out, sn)
	}
	return out, nil
}

// isDir reports whether an entry is a directory, or leads to one.
func isDir(e fs.DirEntry, file string) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(file)
	return err == nil && info.IsDir()
}

// unreadable is the snippet instead of a file that cannot be read, for that reason. nginx
// refuses it with that reason, so it costs what any refused file costs, and no other file.
func unreadable(file string, err error) nginx.Snippet {
	if inPath, ok := errors.AsType[*fs.PathError](err); ok {
		err = inPath.Err
	}
	reason := strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`"\`, r) {
			return '?'
		}
		return r
	}, strings.TrimPrefix(err.Error(), file+" "))
	text := fmt.Sprintf("\"the file cannot be read: %.500s\";\n", reason)
	return nginx.Snippet{Path: file, Text: text, Unreadable: true, Private: true, Fingerprint: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))}
}

// read reads a snippet, with what it includes instead of its lines include.
func read(file string) (nginx.Snippet, error) {
	in := included{bytes: maxSnippetSize, files: maxIncluded}
	text, err := in.read(file)
	if err != nil {
		return nginx.Snippet{}, err
	}
	sn := nginx.Snippet{Path: file, Text: text}
	if _, all, err := nginx.Expand(text, in.text); err == nil {
		sn.Text = all
		sn.Says, _ = nginx.ParseDirectives(all) // too deep with what is included: then it may say anything
	}
	sn.Private, sn.Unreadable = in.private, in.unknown
	sn.Fingerprint = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%v %s", sn.Private, sn.Text)))
	return sn, nil
}

// included reads a snippet and the files that it includes.
type included struct {
	bytes, files int  // what is left to be read
	private      bool // one of them is not for everybody
	unknown      bool // one of them could not be read
}

func (in *included) read(file string) (string, error) {
	text, err := readfile.Regular(file, int64(in.bytes))
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	in.bytes, in.private = in.bytes-len(text), in.private || info.Mode().Perm()&0o004 == 0
	return string(text), nil
}

// text returns what a line include stands for; nothing where that cannot be read here: then
// nginx judges it, which may see other files (in a container) or none.
func (in *included) text(arg string) string {
	files := []string{arg}
	if strings.ContainsAny(arg, "*?[") {
		files, _ = filepath.Glob(arg) // a malformed pattern has none
	}
	out := "# include " + strconv.Quote(arg) + "\n"
	for _, file := range files {
		in.files--
		text, err := "", error(fs.ErrInvalid)
		if filepath.IsAbs(file) && in.files >= 0 {
			text, err = in.read(file)
		}
		if err == nil {
			_, text, err = nginx.Expand(text, in.text) // a part of a block would be another thing in its place
		}
		if err != nil {
			in.unknown = true
			return ""
		}
		out += text + "\n"
	}
	return out
}

// listPasswords lists the files in a directory of password files, sorted. A missing
// directory has none.
func listPasswords(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing password files: %w", err)
	}
	names := []string{}
	for _, e := range entries {
		if !e.IsDir() && len(names) < maxSnippets {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
