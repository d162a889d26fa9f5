package systemd

import (
	_ "embed"
	"strings"
	"sync"
)

// catalog explains the journal's entries. The name of each stands above its MESSAGE_ID.
//
//go:embed nagaya.catalog
var catalog string

// MessageID returns the MESSAGE_ID of a kind of event or of a problem's code: 32 lower-case
// hexadecimal digits under which the catalog explains it. It is empty for any other word.
func MessageID(name string) string { return messageIDs()[name] }

var messageIDs = sync.OnceValue(func() map[string]string {
	ids := map[string]string{}
	name := ""
	for line := range strings.Lines(catalog) {
		line = strings.TrimSuffix(line, "\n")
		if id, ok := strings.CutPrefix(line, "-- "); ok {
			ids[name] = id
		} else if comment, ok := strings.CutPrefix(line, "# "); ok {
			name = comment
		}
	}
	return ids
})
