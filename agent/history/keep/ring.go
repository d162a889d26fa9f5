package keep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/history"
)

// ring is a file of places of one size.
type ring struct {
	file *os.File
	size int // of a place
}

// open opens the file, and makes it in its full size.
func open(dir, name string, places, size int) (*ring, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	full := int64(places) * int64(size)
	info, err := f.Stat()
	if err == nil && info.Size() != full {
		// What is there stays: a file of an interrupted start is completed with zeros.
		for at := info.Size(); at < full && err == nil; at += int64(len(zeros)) {
			_, err = f.WriteAt(zeros[:min(full-at, int64(len(zeros)))], at)
		}
		err = errors.Join(err, f.Truncate(full))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ring{f, size}, nil
}

// makeFiles makes all files in their full size.
func makeFiles(dir string) error {
	served := history.OfServed(nil)
	whole := func(name string, places, size int) error {
		g, err := open(dir, name, places, size)
		if err != nil {
			return err
		}
		return g.file.Close()
	}
	err := whole(hostsFile, history.MostHosts, history.PlaceSize)
	for _, l := range history.Records.Levels {
		err = errors.Join(err, whole(l.Name, l.Places, history.Records.Size))
	}
	for _, l := range served.Levels {
		err = errors.Join(err, whole(l.Name, l.Places, served.Size))
	}
	for _, r := range history.Rings {
		err = errors.Join(err, whole(r.Name, r.Places, history.EventSize))
	}
	return err
}

var zeros [32 << 10]byte

func (g *ring) read(place int, b []byte) error {
	if _, err := g.file.ReadAt(b, int64(place)*int64(g.size)); err != nil {
		return fmt.Errorf("%s: %w", g.file.Name(), err)
	}
	return nil
}

func (g *ring) write(place int, b []byte) error {
	_, err := g.file.WriteAt(b, int64(place)*int64(g.size))
	return err
}

// each gives a file's places to see, several at a time; none where there is no file. A file that is cut off ends
// with its last whole place.
func each(dir, name string, places, size int, see func(part []byte)) error {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, max(len(zeros)/size, 1)*size)
	from := io.LimitReader(f, int64(places)*int64(size))
	for {
		n, err := io.ReadFull(from, b)
		see(b[:n/size*size])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

// sorted puts what was read in parts into one order.
func sorted[T any](form history.Form[T], all []T) []T {
	slices.SortFunc(all, func(a, b T) int { return form.Start(a).Compare(form.Start(b)) })
	return all
}

// hostsFile has the places of hosts.
const hostsFile = "hosts"

func readHosts(dir string) (*history.Hosts, error) {
	hosts, i := new(history.Hosts), 0
	err := each(dir, hostsFile, history.MostHosts, history.PlaceSize, func(part []byte) {
		for b := range slices.Chunk(part, history.PlaceSize) {
			hosts[i] = history.DecodePlace(b)
			i++
		}
	})
	return hosts, err
}

func writePlace(dir string, i int, p history.Place) error {
	g, err := open(dir, hostsFile, history.MostHosts, history.PlaceSize)
	if err != nil {
		return err
	}
	defer g.file.Close()
	return g.write(i, p.Encode())
}
