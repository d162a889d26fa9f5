package tasks

import (
	"fmt"
	"testing"
)

func TestBatches(t *testing.T) {
	batch := map[string]string{"nagaya.batch": "true"}
	s := Snapshot{Containers: []Container{
		{ID: "a", State: Running},
		{ID: "b", State: Running, Labels: batch},
		{ID: "c", State: Paused, Labels: batch},
		{ID: "d", State: Exited, Labels: batch},
		{ID: "e", State: Paused},
		{ID: "f", State: Running, Labels: batch, Origin: File},
	}}
	if got := fmt.Sprint(s.Batches()); got != "[b c]" {
		t.Errorf("batches %s, want [b c]", got)
	}
	if got := (Snapshot{}).Batches(); got != nil {
		t.Errorf("batches %v of nothing", got)
	}
	for word, want := range map[string]bool{"true": true, "T": true, "y": true, "on": true, "1": true, "": true, "false": false, "F": false, "n": false, "off": false, "0": false, "maybe": true} {
		if got := (Container{Labels: map[string]string{LabelPrefix + "batch": word}}).IsBatch(); got != want {
			t.Errorf("nagaya.batch=%q is a batch: %v", word, got)
		}
	}
}
