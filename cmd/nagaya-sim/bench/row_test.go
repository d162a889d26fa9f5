package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTableHasPeersAndRatios(t *testing.T) {
	row := compared("one start; returned → first 200", spansOf{
		nagayaName:    {40 * time.Millisecond, 50 * time.Millisecond, 60 * time.Millisecond},
		caddyName:     {100 * time.Millisecond},
		dockerGenName: {200 * time.Millisecond},
	})
	row.Part, row.Bound = "j", "p50 ≤ 0.75 × caddy-docker-proxy"
	var out strings.Builder
	printTable(&out, []Row{row, {Part: "l", What: "replacements", Got: "1 of 2 failed", Bound: "0 failed", Missed: true}})
	want := `
   what                   nagaya                         peers                                      ratio  must hold                        
j  one start              p50 50 ms, p90 60 ms           caddy-docker-proxy p50 100 ms, p90 100 ms  0.50   p50 ≤ 0.75 × caddy-docker-proxy  holds
   returned → first 200   range 40 ms to 60 ms, 3 runs   docker-gen p50 200 ms, p90 200 ms          0.25                                    
l  replacements           1 of 2 failed                                                                    0 failed                         BROKEN
`
	if diff := cmp.Diff(trimmed(want), trimmed(out.String())); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
	for figure, want := range map[string]float64{"p50": 50, caddyName + " p50": 100, dockerGenName + " p90": 200} {
		if got := row.Figures[figure]; got != want {
			t.Errorf("figure %s is %v, want %v", figure, got, want)
		}
	}
}

// trimmed are the lines of a text as words.
func trimmed(text string) (lines [][]string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}
