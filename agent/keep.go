package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKept bounds a kept file, in bytes: what was learnt over weeks takes some
// hundred kilobytes.
const maxKept = 4 << 20

// recall reads what keep wrote into v. A file that is missing is no error; one
// that cannot be read is an error, after which v is to be taken as empty: what
// was learnt is lost, and learnt again. What a killed writer left beside the file is
// removed.
func recall(path string, v any) error {
	left, _ := filepath.Glob(unfinished(path) + "*") // the pattern is right
	for _, file := range left {
		_ = os.Remove(file) // it will be tried again
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKept))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// unfinished is how the names of files begin that are written to become path.
func unfinished(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".")
}

// keep writes v to path such that after a crash at any moment the file is either
// the old or the new one, whole.
func keep(path string, v any) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(unfinished(path))+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
