package systemd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// datagrams is a real unix datagram socket that the test reads without
// blocking, so that it works inside a synctest bubble too.
type datagrams struct {
	path string
	fd   int
}

func listen(t *testing.T) *datagrams {
	t.Helper()
	// Not t.TempDir(): with a long test name the path outgrows a socket address.
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	d := &datagrams{path: filepath.Join(dir, "s"), fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: d.path}); err != nil {
		t.Fatal(err)
	}
	return d
}

// all returns every datagram that has arrived; of one that carries a file
// descriptor, the content of the file.
func (d *datagrams) all(t *testing.T) []string {
	t.Helper()
	var got []string
	buf, oob := make([]byte, 1<<20), make([]byte, 256)
	for {
		n, oobn, _, _, err := unix.Recvmsg(d.fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if oobn == 0 {
			got = append(got, string(buf[:n]))
			continue
		}
		got = append(got, sealedFile(t, oob[:oobn]))
	}
}

// sealedFile reads the file as journald does: only if nobody can change it any more.
func sealedFile(t *testing.T, oob []byte) string {
	t.Helper()
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("file descriptors: %v, %v; want one", fds, err)
	}
	file := os.NewFile(uintptr(fds[0]), "memfd")
	defer file.Close()
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals&want != want {
		t.Errorf("seals = %#x, %v; want at least %#x", seals, err, want)
	}
	content, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// parseEntry reads one journal entry in export form into sorted NAME=value strings.
func parseEntry(t *testing.T, entry string) []string {
	t.Helper()
	var fields []string
	for b := []byte(entry); len(b) > 0; {
		head, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatalf("no line feed after %q", b)
		}
		if bytes.ContainsRune(head, '=') {
			fields, b = append(fields, string(head)), rest
			continue
		}
		if len(rest) < 8 {
			t.Fatalf("no length after %q", head)
		}
		n := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if uint64(len(rest)) <= n || rest[n] != '\n' {
			t.Fatalf("field %q: length %d does not fit the %d bytes that follow", head, n, len(rest))
		}
		fields, b = append(fields, string(head)+"="+string(rest[:n])), rest[n+1:]
	}
	slices.Sort(fields)
	return fields
}

func value(fields []string, name string) string {
	for _, f := range fields {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return v
		}
	}
	return ""
}
