package nginx

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Logs are those of requests and, where there are ports of their own, of connections.
type Logs struct {
	Requests, Sessions Log
	// Elsewhere are the hosts for which a file of the operator's says access_log, sorted: their
	// requests may not be in Requests.
	Elsewhere []string
}

// Log is a log that nginx writes.
type Log struct {
	// Path is the file; empty where there is none that can be read.
	Path string
	// Format is that of a line, with nginx's variables in it. Escape is default, json or none.
	Format, Escape string
	// Off says why there is no Path, and what to do about it; empty where nothing is to be logged.
	Off string
}

// Logs returns where the tree has requests and connections logged.
func (t *Tree) Logs() Logs {
	s := t.settings
	if s.AccessLog == "" {
		return Logs{}
	}
	l := Logs{Requests: t.log("http", s.AccessLog, httpFiles(s), ownFormat(s))}
	if len(t.shape.Streams) > 0 {
		l.Sessions = t.log("stream", s.streamLog(), snippetsIn(s, streamSnippets), []string{streamFormat})
	}
	for _, site := range t.shape.Sites {
		if saysAccessLog(filesForSite(s, site), s.AccessLog) != "" {
			l.Elsewhere = append(l.Elsewhere, site.Host)
		}
	}
	slices.Sort(l.Elsewhere)
	return l
}

// log is the log of a section, with the operator's files for it and our own format.
func (t *Tree) log(section, file string, theirs []Snippet, format []string) Log {
	s := t.settings
	other := saysAccessLog(theirs, file)
	switch {
	case s.AccessLog == "off":
		return Log{Off: "nothing is logged: nginx.access-log is off; name a file there"}
	case s.logsToDevice():
		return Log{Off: "nginx logs to the agent's stdout: nginx.log-stdout is true; set it to false, so that there is a file"}
	case other != "":
		return Log{Off: fmt.Sprintf("%s says access_log for the whole %s section; say 'access_log %s %s;' there too, and not off", other, section, file, logName)}
	case s.Spaces.Logs.Low:
		return Log{Off: fmt.Sprintf("nothing is logged: too little space is left in %s; free some", s.Spaces.Logs.Dir)}
	}
	for _, d := range levelOf(theirs...).lines {
		if d.Name == "log_format" && len(d.Args) > 1 && d.Args[0] == logName {
			format = d.Args[1:]
		}
	}
	l := Log{Path: file, Escape: "default"}
	for _, word := range format {
		if escape, found := strings.CutPrefix(word, "escape="); found && l.Format == "" {
			l.Escape = escape
		} else {
			l.Format += word
		}
	}
	return l
}

// saysAccessLog returns the first of the operator's files in which another log takes the place of ours; empty for none. What is said beside off does
// not count (nginx source, ngx_http_log_handler).
func saysAccessLog(files []Snippet, ours string) (file string) {
	beside := false
	for _, sn := range files {
		for _, d := range levelOf(sn).lines {
			if d.Name != "access_log" || len(d.Args) == 0 {
				continue
			}
			if d.Args[0] == "off" {
				return sn.Path
			}
			isOurs := len(d.Args) > 1 && d.Args[0] == ours && d.Args[1] == logName && !slices.ContainsFunc(d.Args, func(a string) bool { return strings.HasPrefix(a, "if=") })
			beside, file = beside || isOurs, cmp.Or(file, sn.Path)
		}
	}
	if beside {
		return ""
	}
	return file
}
