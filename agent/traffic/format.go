package traffic

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// field is what a variable says.
type field uint8

const (
	nothing field = iota
	host
	request // "GET /path HTTP/1.1"
	uri
	status
	sent
	received
	seconds
	upstreamStatus
	upstreamAddr
	protocol
	port
	fields
)

// variables are those that say something, in the http or the stream section. Of two for the same
// the one with the smaller rank counts.
var variables = map[string]struct {
	field field
	rank  int
}{
	"host": {host, 0}, "nagaya_log_host": {host, 0}, "http_host": {host, 1},
	"request": {request, 0}, "nagaya_log_request": {request, 0}, "request_uri": {uri, 0}, "uri": {uri, 1}, "document_uri": {uri, 1},
	"status": {status, 0}, "body_bytes_sent": {sent, 0}, "bytes_sent": {sent, 1}, "bytes_received": {received, 0},
	"request_time": {seconds, 0}, "upstream_status": {upstreamStatus, 0}, "upstream_addr": {upstreamAddr, 0},
	"protocol": {protocol, 0}, "server_port": {port, 0},
}

// Format takes the lines of a log apart.
type Format struct {
	before string // the first variable
	parts  []part
	json   bool
	has    [fields]bool
}

// part is a variable and the text behind it, which is empty where the rest of the line is its value.
type part struct {
	field field
	// list is true where the value may be several, with ", " or " : " between them (nginx.org,
	// ngx_http_upstream_module).
	list bool
	end  string
}

// values are those of one line.
type values [fields][]byte

// variable is one of nginx in a format, e.g. $host or ${host}.
var variable = regexp.MustCompile(`\$(\w+|\{[^}]*\}?)`)

// Compile reads the format of a log. Of a variable directly behind another nobody can tell where it
// begins, so neither of the two says anything.
func Compile(l nginx.Log) Format {
	f := Format{json: l.Escape == "json"}
	ranks := map[field]int{}
	found := append(variable.FindAllStringIndex(l.Format, -1), []int{len(l.Format)})
	f.before = l.Format[:found[0][0]]
	for i := 0; i+1 < len(found); i++ {
		first := i
		for found[i][1] == found[i+1][0] && i+2 < len(found) {
			i++
		}
		name := strings.Trim(l.Format[found[first][0]:found[first][1]], "${}")
		p := part{end: l.Format[found[i][1]:found[i+1][0]], list: strings.HasPrefix(name, "upstream_")}
		if v := variables[name]; first == i && (!f.has[v.field] || v.rank < ranks[v.field]) {
			for k, other := range f.parts {
				if other.field == v.field {
					f.parts[k].field = nothing
				}
			}
			p.field, ranks[v.field], f.has[v.field] = v.field, v.rank, true
		}
		f.parts = append(f.parts, p)
	}
	for len(f.parts) > 0 && f.parts[len(f.parts)-1].field == nothing {
		f.parts = f.parts[:len(f.parts)-1] // what is behind the last that says something is not read
	}
	return f
}

// counts reports whether lines of the access log say what is needed at least: whose request it was, and what came of it.
func (f *Format) counts() bool { return f.has[host] && f.has[status] }

// parse takes a line apart, which has no line feed. It returns false for a line of another format.
func (f *Format) parse(line []byte, v *values) bool {
	if !bytes.HasPrefix(line, []byte(f.before)) {
		return false
	}
	line = line[len(f.before):]
	for i := range f.parts {
		p := &f.parts[i]
		n := len(line)
		if p.end != "" {
			if n = f.find(line, p); n < 0 {
				return false
			}
		}
		v[p.field] = line[:n]
		line = line[min(len(line), n+len(p.end)):]
	}
	return true
}

// find returns where the value at the front of the line ends; -1 for nowhere.
func (f *Format) find(line []byte, p *part) int {
	for from := 0; ; {
		n := bytes.Index(line[from:], []byte(p.end))
		if n < 0 {
			return -1
		}
		n += from
		if !(f.json && isEscaped(line[:n])) && !(p.list && isBetween(line, n)) {
			return n
		}
		from = n + 1
	}
}

// isEscaped reports whether what follows a text has been escaped by a backslash.
func isEscaped(before []byte) bool {
	n := len(before)
	for n > 0 && before[n-1] == '\\' {
		n--
	}
	return (len(before)-n)%2 == 1
}

// isBetween reports whether a space at n is one between two values of a list.
func isBetween(line []byte, n int) bool {
	if line[n] != ' ' || n == 0 {
		return false
	}
	return line[n-1] == ',' || bytes.HasPrefix(line[n:], []byte(" : ")) || bytes.HasSuffix(line[:n], []byte(" :"))
}
