package certs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// ID names a set of names with a kind of key, in the store and in file names. It is the name itself
// and the kind for one name of at most 100 bytes, and a hash else: "a.example.com.P256", "SET-0123….RSA2048". It has letters, digits,
// '.', '-' and '_'. No two sets have the same: names are in lower case.
func ID(names []string, k KeyType) string {
	kind := "." + strings.ToUpper(string(k))
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) == 1 && len(sorted[0]) <= 100 && sorted[0][0] != '*' && pattern.Host(sorted[0]) {
		return sorted[0] + kind
	}
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\n")))
	return "SET-" + hex.EncodeToString(sum[:16]) + kind
}

// short is what stands for a text in a ledger: 72 bits of its hash.
func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
