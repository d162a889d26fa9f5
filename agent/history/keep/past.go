package keep

import (
	"errors"
	"io/fs"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Past reads what is kept in a directory, for whoever shows it. Where nothing was kept yet there is nothing.
type Past string

// Credits are the records between from and to, in at most that many spans.
func (p Past) Credits(from, to time.Time, most int) (report.Series, error) {
	all, err := Read(string(p), from, to)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return history.Series(all, from, to, most), err
}
