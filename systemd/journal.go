package systemd

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// journalSocket is where journald listens (systemd.io, Native Journal Protocol).
	journalSocket = "/run/systemd/journal/socket"
	// sendTimeout bounds a send to a socket whose reader hangs: a line may be
	// lost, the agent must not block.
	sendTimeout = time.Second
	// maxField is the length of the longest field name that journald keeps, in bytes.
	maxField = 64
	// maxValue bounds one value, in bytes.
	maxValue = 64 << 10
)

// send delivers one serialised entry, as a datagram or, if that is too large
// for one, as a sealed memory file.
func (j *journal) send(entry []byte) error {
	err := j.write(entry, nil)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = j.sendFile(entry)
	}
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	return nil
}

func (j *journal) write(entry, rights []byte) error {
	if err := j.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, _, err := j.conn.WriteMsgUnix(entry, rights, &net.UnixAddr{Name: j.o.Path, Net: "unixgram"})
	return err
}

// sendFile passes the entry as a memory file. journald maps it, and refuses one
// that is not sealed, because the sender could change it meanwhile.
func (j *journal) sendFile(entry []byte) error {
	fd, err := unix.MemfdCreate("nagaya-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("making a memory file: %w", err)
	}
	file := os.NewFile(uintptr(fd), "nagaya-journal")
	defer file.Close()
	if _, err := file.Write(entry); err != nil {
		return fmt.Errorf("filling the memory file: %w", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("sealing the memory file: %w", err)
	}
	return j.write(nil, unix.UnixRights(fd))
}

// appendField adds one field in the journal's export form: NAME=value, or, where
// the value holds a line feed, the name, its length as 64 bits little endian
// and the value. name must come from fieldName or be a constant.
func appendField(b *bytes.Buffer, name, value string) {
	value = cut(value, maxValue)
	b.WriteString(name)
	if !strings.Contains(value, "\n") {
		b.WriteByte('=')
	} else {
		b.WriteByte('\n')
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// fieldName maps any key to what journald takes, A to Z, 0 to 9 and _, under
// the prefix that keeps the project's fields apart from others'.
func fieldName(key string) string {
	name := bytes.ToUpper([]byte("NAGAYA_" + key))
	name = name[:min(len(name), maxField)]
	for i, c := range name {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			name[i] = '_'
		}
	}
	return string(name)
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	return strings.ToValidUTF8(s[:n-len(mark)], "") + mark
}

// catalog explains the journal's entries. The name of each stands above its MESSAGE_ID.
//
//go:embed nagaya.catalog
var catalog string

// MessageID returns the MESSAGE_ID of a kind of event or of a problem's code: 32 lower-case
// hexadecimal digits under which the catalog explains it. It is empty for any other word.
func MessageID(name string) string { return messageIDs()[name] }

var messageIDs = sync.OnceValue(func() map[string]string {
	ids := map[string]string{}
	name := ""
	for line := range strings.Lines(catalog) {
		line = strings.TrimSuffix(line, "\n")
		if id, ok := strings.CutPrefix(line, "-- "); ok {
			ids[name] = id
		} else if comment, ok := strings.CutPrefix(line, "# "); ok {
			name = comment
		}
	}
	return ids
})
