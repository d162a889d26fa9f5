package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := &progress{out: &out, begun: time.Now()}
		for i := range 30 {
			p.tell(float64(i) / 30)
			if i == 19 && out.Len() > 0 {
				t.Errorf("before two seconds: %q", out.String())
			}
			time.Sleep(100 * time.Millisecond) // virtual: in a bubble
		}
		p.end()
		if got := out.String(); strings.Count(got, "% done") != 5 || !strings.HasPrefix(got, "\rnagaya: 67 % done\r") || !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("%q", got)
		}
	})
	file, err := os.Create(filepath.Join(t.TempDir(), "errors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if tell, end := (&cli{errs: file}).progress(false); tell != nil {
		t.Error("a file is told of progress")
	} else {
		end()
	}
}
