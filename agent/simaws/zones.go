package simaws

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ZoneSpec describes a hosted zone of Route 53.
type ZoneSpec struct {
	// ID begins with Z; Name is the zone's, such as example.com.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Changeable limits what may be changed to TXT records whose names match one of these
	// patterns (with * and ?), as condition keys of IAM do; nil is no limit.
	Changeable []string `json:"changeable,omitempty"`
}

// Record is a record set of a hosted zone. Name is in lower case with the last dot; the values of
// TXT records are in quotation marks.
type Record struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	TTL    int64    `json:"ttl"`
	Values []string `json:"values"`
}

// zone is a hosted zone: its records now, and what its name servers answer from when on.
type zone struct {
	spec    ZoneSpec
	records []Record
	served  []zoneView
}

type zoneView struct {
	from    time.Time
	records []Record
}

// keptZoneViews bounds what name servers can still have to learn.
const keptZoneViews = 256

// become replaces the records; name servers answer them from then on.
func (z *zone) become(records []Record, from time.Time) {
	z.records = records
	z.served = append(z.served, zoneView{from, records})
	if extra := len(z.served) - keptZoneViews; extra > 0 {
		z.served = slices.Delete(z.served, 0, extra)
	}
}

// fullName is a name as it is kept. Route 53 writes * as \052.
func fullName(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.ReplaceAll(name, `\052`, "*"), ".")) + "."
}

func escaped(name string) string { return strings.ReplaceAll(name, "*", `\052`) }

// compare orders record sets as Route 53 does: by labels from the last to the first, then by type.
func (r Record) compare(o Record) int {
	a, b := strings.Split(r.Name, "."), strings.Split(o.Name, ".")
	slices.Reverse(a)
	slices.Reverse(b)
	return cmp.Or(slices.Compare(a, b), cmp.Compare(r.Type, o.Type))
}

func (r Record) named() string { return fmt.Sprintf("[name='%s', type='%s']", r.Name, r.Type) }

func (z *zone) changeable(r Record) bool {
	return z.spec.Changeable == nil || r.Type == "TXT" && slices.ContainsFunc(z.spec.Changeable, func(p string) bool {
		return wildcard(p, strings.TrimSuffix(r.Name, "."))
	})
}

// changed applies one change to the records, or says why it cannot be (Route 53 API reference,
// ChangeResourceRecordSets).
func (z *zone) changed(records []Record, action string, r Record) (after []Record, why string) {
	if r.Name != z.spec.Name && !strings.HasSuffix(r.Name, "."+z.spec.Name) {
		return records, fmt.Sprintf("RRSet with DNS name %s is not permitted in zone %s", r.Name, z.spec.Name)
	}
	if why := r.wrong(); why != "" {
		return records, why
	}
	at, found := slices.BinarySearchFunc(records, r, Record.compare)
	switch {
	case action == "CREATE" && found:
		return records, "Tried to create resource record set " + r.named() + " but it already exists"
	case action == "DELETE" && !found:
		return records, "Tried to delete resource record set " + r.named() + " but it was not found"
	case action == "DELETE" && !records[at].same(r):
		return records, "Tried to delete resource record set " + r.named() + " but the values provided do not match the current values"
	case action == "DELETE":
		return slices.Delete(slices.Clone(records), at, at+1), ""
	case action == "UPSERT" && found:
		records = slices.Clone(records)
		records[at] = r
		return records, ""
	case action == "CREATE", action == "UPSERT":
		return slices.Insert(slices.Clone(records), at, r), ""
	}
	return records, "Invalid action " + action
}

func (r Record) same(o Record) bool {
	return r.TTL == o.TTL && slices.Equal(slices.Sorted(slices.Values(r.Values)), slices.Sorted(slices.Values(o.Values)))
}

// wrong says what is wrong with a record set.
func (r Record) wrong() string {
	if len(r.Values) == 0 || r.TTL < 0 {
		return "Invalid request: Missing field 'ResourceRecords' or 'TTL' in Change with " + r.named()
	}
	for n, v := range r.Values {
		inner, ok := strings.CutPrefix(v, `"`)
		inner, end := strings.CutSuffix(inner, `"`)
		switch {
		case slices.Contains(r.Values[:n], v):
			return "Duplicate Resource Record: '" + v + "'"
		case r.Type == "TXT" && (!ok || !end):
			return "Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '" + v + "''"
		case r.Type == "TXT" && len(inner) > 255:
			return "Invalid Resource Record: 'FATAL problem: CharacterStringTooLong (Value is too long) encountered with '" + v + "''"
		}
	}
	return ""
}

// AddZone makes a hosted zone without records.
func (w *World) AddZone(s ZoneSpec) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasPrefix(s.ID, "Z") || s.Name == "" {
		return fmt.Errorf("zone: id %q does not begin with Z, or the name %q is empty", s.ID, s.Name)
	}
	if w.zones[s.ID] != nil {
		return fmt.Errorf("zone %q exists", s.ID)
	}
	s.Name = fullName(s.Name)
	w.zones[s.ID] = &zone{spec: s}
	return nil
}

// Records returns the record sets of a hosted zone, also those that its name servers do not answer yet.
func (w *World) Records(zoneID string) []Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if z := w.zones[zoneID]; z != nil {
		return slices.Clone(z.records)
	}
	return nil
}

// Answers is what the name servers of the hosted zones answer for a name and a type now: the values
// of a TXT record without their quotation marks.
func (w *World) Answers(name, kind string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, want := w.Now(), fullName(name)
	var all []string
	for _, id := range sortedKeys(w.zones) {
		for _, v := range slices.Backward(w.zones[id].served) {
			if v.from.After(now) {
				continue
			}
			for _, r := range v.records {
				if r.Name == want && r.Type == kind {
					all = append(all, r.Values...)
				}
			}
			break
		}
	}
	for n, v := range all {
		if kind == "TXT" {
			all[n] = strings.TrimSuffix(strings.TrimPrefix(v, `"`), `"`)
		}
	}
	return all
}
