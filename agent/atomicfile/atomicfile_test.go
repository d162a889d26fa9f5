package atomicfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	type value struct{ A, B int }
	var got value
	if err := ReadJSON(path, &got); err != nil || got != (value{}) {
		t.Errorf("absent: %+v, %v", got, err)
	}
	for i := range 3 {
		want := value{i, i * i}
		if err := WriteJSON(path, want); err != nil {
			t.Fatal(err)
		}
		if err := ReadJSON(path, &got); err != nil || got != want {
			t.Errorf("wrote %+v, read %+v, %v", want, got, err)
		}
	}
	if err := WriteJSON(path, make(chan int)); err == nil {
		t.Error("what cannot be written was written")
	}
	if err := ReadJSON(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("a failed write harmed the file: %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("temporary files are left: %v", left)
	}
	if err := WriteJSON(path, strings.Repeat("x", maxJSON)); err == nil {
		t.Error("what would not be read was written")
	}
	if err := ReadJSON(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("it harmed the file: %+v, %v", got, err)
	}
	// A writer that was killed leaves a part of a file beside the whole one.
	for _, name := range []string{".x.json.123", ".x.json456"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"A": 1`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := ReadJSON(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("beside a writer: %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 {
		t.Errorf("what may be written at this moment was removed: %v", left)
	}
	for _, name := range []string{".x.json.123", ".x.json456"} {
		old := time.Now().Add(-leftAfter - time.Second)
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := ReadJSON(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("after a killed writer: %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("its file is left: %v", left)
	}
	if err := os.WriteFile(path, []byte(`{"A": 1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(path, &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half a file: %v, want an error that names it", err)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, row := range []struct {
		text string
		perm os.FileMode
	}{{"one", 0o600}, {"two", 0o666}, {"", 0o644}} {
		if err := Write(path, []byte(row.text), row.perm); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != row.text {
			t.Errorf("read %q, %v; want %q", text, err, row.text)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != row.perm {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, row.perm)
		}
	}
	if err := Write(filepath.Join(path, "beneath a file"), nil, 0o600); err == nil {
		t.Error("a file beneath a file was written")
	}
}
