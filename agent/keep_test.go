package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKeepAndRecall(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	type value struct{ A, B int }
	var got value
	if err := recall(path, &got); err != nil || got != (value{}) {
		t.Errorf("absent: %+v, %v", got, err)
	}
	for i := range 3 {
		want := value{i, i * i}
		if err := keep(path, want); err != nil {
			t.Fatal(err)
		}
		if err := recall(path, &got); err != nil || got != want {
			t.Errorf("kept %+v, recalled %+v, %v", want, got, err)
		}
	}
	if err := keep(path, make(chan int)); err == nil {
		t.Error("what cannot be written was written")
	}
	if err := recall(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("a failed keep harmed the file: %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("temporary files are left: %v", left)
	}
	// A writer that was killed leaves a part of a file beside the whole one.
	if err := os.WriteFile(filepath.Join(dir, ".x.json.123"), []byte(`{"A": 1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := recall(path, &got); err != nil || got != (value{2, 4}) {
		t.Errorf("after a killed writer: %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("its file is left: %v", left)
	}
	if err := os.WriteFile(path, []byte(`{"A": 1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := recall(path, &got); err == nil {
		t.Error("half a file was accepted")
	}
}
