package keep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/history"
)

// file is one of those of the history: places of one size, in bytes.
type file struct {
	name         string
	places, size int
}

// hostsFile has the places of hosts.
var hostsFile = file{"hosts", history.MostHosts, history.PlaceSize}

func levelFile[T any](form history.Form[T], l history.Level) file {
	return file{l.Name, l.Places, form.Size}
}

func eventsFile(r history.Ring) file { return file{r.Name, r.Places, history.EventSize} }

// ring is a file that is open.
type ring struct {
	*os.File
	size int // of a place
}

// spare is what the history leaves on the disk where it takes its space, in bytes: others need it more.
const spare = 8 << 20

// room returns an error where so much more would leave less than spare.
func room(dir string, more int64) error {
	var left unix.Statfs_t
	if err := unix.Statfs(dir, &left); err != nil || left.Bavail*uint64(left.Bsize) >= uint64(more)+spare {
		return err
	}
	return fmt.Errorf("it is not kept: it takes 8 MB, and less than %d MiB would be left on the disk of %s", spare>>20, dir)
}

// open opens the file, and makes it in its full size, if there is room.
func open(dir string, what file) (*ring, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	full := int64(what.places) * int64(what.size)
	f, err := os.OpenFile(filepath.Join(dir, what.name), os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = room(dir, full); err == nil {
			f, err = os.OpenFile(filepath.Join(dir, what.name), os.O_RDWR|os.O_CREATE, 0o644)
		}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != full {
		// What is there stays: a file of an interrupted start is completed with zeros.
		err = room(dir, max(full-info.Size(), 0))
		for at := info.Size(); at < full && err == nil; at += int64(len(zeros)) {
			_, err = f.WriteAt(zeros[:min(full-at, int64(len(zeros)))], at)
		}
		if err == nil {
			err = f.Truncate(full)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ring{f, what.size}, nil
}

// makeFiles makes all files in their full size.
func makeFiles(dir string) error {
	all, served := []file{hostsFile}, history.OfServed(nil)
	for _, l := range history.Records.Levels {
		all = append(all, levelFile(history.Records, l))
	}
	for _, l := range served.Levels {
		all = append(all, levelFile(served, l))
	}
	for _, r := range history.Rings {
		all = append(all, eventsFile(r))
	}
	for _, f := range all {
		g, err := open(dir, f)
		if err != nil {
			return err
		}
		g.Close()
	}
	return nil
}

var zeros [32 << 10]byte

func (g *ring) read(place int, b []byte) error {
	if _, err := g.ReadAt(b, int64(place)*int64(g.size)); err != nil {
		return fmt.Errorf("%s: %w", g.Name(), err)
	}
	return nil
}

func (g *ring) write(place int, b []byte) error {
	_, err := g.WriteAt(b, int64(place)*int64(g.size))
	return err
}

// each gives a file's places to see, several at a time; none where there is no file. A file that is cut off ends
// with its last whole place.
func each(dir string, what file, see func(part []byte)) error {
	f, err := os.Open(filepath.Join(dir, what.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, max(len(zeros)/what.size, 1)*what.size)
	from := io.LimitReader(f, int64(what.places)*int64(what.size))
	for {
		n, err := io.ReadFull(from, b)
		see(b[:n/what.size*what.size])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

func readHosts(dir string) (*history.Hosts, error) {
	hosts, i := new(history.Hosts), 0
	err := each(dir, hostsFile, func(part []byte) {
		for b := range slices.Chunk(part, history.PlaceSize) {
			hosts[i] = history.DecodePlace(b)
			i++
		}
	})
	return hosts, err
}

func writePlace(dir string, i int, p history.Place) error {
	g, err := open(dir, hostsFile)
	if err != nil {
		return err
	}
	defer g.Close()
	return g.write(i, p.Encode())
}
