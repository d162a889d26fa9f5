package apply

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// maxLogTail bounds what is read of the error log, in bytes.
const maxLogTail = 64 << 10

// logSize returns the size of the error log.
func logSize(dirs nginx.Dirs) int64 {
	info, err := os.Stat(nginx.ErrorLog(dirs.Log))
	if dirs.Log == "" || err != nil {
		return 0
	}
	return info.Size()
}

// masterMessage returns the last "[emerg]" message that the master has written into the
// error log since it had that size; "" if there is none. It is shown, or is a reason to ask nginx
// -t, and nothing is decided by it. Text from clients is in the lines of workers, whose
// process numbers are others.
func masterMessage(dirs nginx.Dirs, master int, since int64) string {
	size := logSize(dirs)
	if size == since {
		return ""
	}
	f, err := readfile.Open(nginx.ErrorLog(dirs.Log))
	if dirs.Log == "" || err != nil {
		return ""
	}
	defer f.Close()
	if size < since {
		since = 0 // it was rotated
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, max(since, size-maxLogTail), maxLogTail))
	last, prefix := "", fmt.Sprintf("[emerg] %d#%d: ", master, master)
	for line := range strings.Lines(string(b)) {
		// ngx_log_error_core: date, [level], process#thread.
		line = line[min(len(line), len("2006/01/02 15:04:05 ")):]
		if strings.HasPrefix(line, prefix) {
			last = cmp.Or(nginx.LastEmerg(line), last)
		}
	}
	return last
}
