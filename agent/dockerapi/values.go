package dockerapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
)

const (
	// maxValue bounds one object in bytes: an answer, one of a list, or an event. Docker's
	// own words for a container take about 10 kB.
	maxValue = 256 << 10
	// plenty is from how much of an answer on an object may have lessValue bytes only, so that
	// some containers with long labels do not use up the room of the others.
	plenty    = 8 << 20
	lessValue = 16 << 10
	// maxAnswer bounds what is left of one answer.
	maxAnswer = 64 << 20
)

// errTooLong is the error of an answer that has too many objects.
var errTooLong = errors.New("the engine's answer is too long")

// values reads JSON, one object or array of objects or a stream of objects, and
// leaves out what is in objects that are too long. Memory for one of them is all it takes.
type values struct {
	from *bufio.Reader
	most int64 // bytes that may still be given; below 0 is no limit
	out  bytes.Buffer

	depth   int  // of brackets that are open
	base    int  // the depth at which objects begin: 1 in a list
	listed  bool // an object of the list was given
	quoted  bool // in a string
	escaped bool // after a backslash in it
	object  bytes.Buffer
	given   int64 // bytes
	long    bool  // the object is too long
}

func newValues(from io.Reader, most int64) *values {
	return &values{from: bufio.NewReader(from), most: most}
}

// Read gives what is left of the answer.
func (v *values) Read(p []byte) (int, error) {
	for v.out.Len() == 0 {
		c, err := v.from.ReadByte()
		if err != nil {
			return 0, err
		}
		v.take(c)
	}
	n, _ := v.out.Read(p)
	v.given += int64(n)
	if v.most >= 0 && v.given > v.most {
		return 0, errTooLong
	}
	return n, nil
}

// take takes one byte of the answer.
func (v *values) take(c byte) {
	begins := v.depth == v.base
	switch {
	case v.quoted:
		v.quoted = c != '"' || v.escaped
		v.escaped = c == '\\' && !v.escaped
	case c == '"':
		v.quoted = true
	case c == '[' && v.depth == 0:
		v.depth, v.base, v.listed = 1, 1, false
		v.out.WriteByte(c)
		return
	case c == '{' || c == '[':
		v.depth++
	case c == ']' && v.depth == 1 && v.base == 1:
		v.depth, v.base = 0, 0
		v.out.WriteByte(c)
		return
	case c == '}' || c == ']':
		v.depth--
	case c == ',' && begins && v.base == 1:
		return // one is written before each object that is given
	}
	if begins && v.depth == v.base { // between objects
		v.out.WriteByte(c)
		return
	}
	v.keep(c)
	if v.depth == v.base {
		v.end()
	}
}

// keep adds a byte to the object as long as that is not too long.
func (v *values) keep(c byte) {
	most := maxValue
	if v.most >= 0 && v.given > plenty {
		most = lessValue
	}
	if v.long = v.long || v.object.Len() >= most; !v.long {
		v.object.WriteByte(c)
	}
}

// idFirst is how the engine begins the object of a container.
var idFirst = regexp.MustCompile(`^\{"Id":"[0-9a-f]{64}"`)

// end gives the object on.
func (v *values) end() {
	text := v.object.Bytes()
	if v.long {
		if text = idFirst.Find(text); text != nil {
			text = append(bytes.Clone(text), '}')
		}
	}
	if len(text) > 0 {
		if v.base == 1 && v.listed {
			v.out.WriteByte(',')
		}
		v.listed = true
		v.out.Write(text)
	}
	v.object.Reset()
	v.long = false
}
