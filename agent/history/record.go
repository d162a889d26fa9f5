// Package history holds how it was: credits, gate, address and nginx, minute by minute for
// two days, in steps of five minutes for two weeks and of an hour for a year.
package history

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// Value is a number that may be unknown (NaN); JSON has null then.
type Value float32

// Unknown is the Value of what nobody knew.
var Unknown = Value(math.NaN())

// Known reports whether the value is.
func (v Value) Known() bool { return !math.IsNaN(float64(v)) }

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) {
	if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(v), 'g', -1, 32), nil
}

// Record is what was seen in one span of time. Amounts are CPU credits.
type Record struct {
	// Start is when the span begins, in whole seconds; Watched is for how many seconds of it the agent ran.
	Start   time.Time `json:"start"`
	Watched Value     `json:"watched"`
	// Balance, Error and Surplus are those at the end.
	Balance Value `json:"balance"`
	Error   Value `json:"balance_error"`
	Surplus Value `json:"surplus"`
	// These are sums over the span.
	Earned    Value `json:"earned"`
	Services  Value `json:"services"`
	Batches   Value `json:"batches"`
	Discarded Value `json:"discarded"`
	Charged   Value `json:"charged"`
	Reloads   Value `json:"reloads"`
	// Open is the share of the watched time in which the gate was open, and Held the share of the
	// claimed addresses that were here; Running is the mean number of jobs that ran.
	Open    Value `json:"gate_open"`
	Held    Value `json:"address_held"`
	Running Value `json:"jobs_running"`
}

// sums, last and means are the values by how those of two spans become one.
func (r *Record) sums() []*Value {
	return []*Value{&r.Watched, &r.Earned, &r.Services, &r.Batches, &r.Discarded, &r.Charged, &r.Reloads}
}

func (r *Record) last() []*Value { return []*Value{&r.Balance, &r.Error, &r.Surplus} }

func (r *Record) means() []*Value { return []*Value{&r.Open, &r.Held, &r.Running} }

// values are all, in the order in which they are kept.
func (r *Record) values() []*Value {
	return append(append(r.sums(), r.last()...), r.means()...)
}

// Merge makes one record of those of the spans in it, the oldest first. What is unknown in some
// of them is taken from the others.
func Merge(start time.Time, parts []Record) Record {
	out := Record{Start: start}
	for _, v := range out.values() {
		*v = Unknown
	}
	weights := make([]Value, len(out.means()))
	for _, p := range parts {
		for i, v := range p.sums() {
			if to := out.sums()[i]; v.Known() && to.Known() {
				*to += *v
			} else if v.Known() {
				*to = *v
			}
		}
		for i, v := range p.last() {
			if v.Known() {
				*out.last()[i] = *v
			}
		}
		for i, v := range p.means() {
			if to := out.means()[i]; v.Known() && p.Watched > 0 {
				if !to.Known() {
					*to = 0
				}
				weights[i] += p.Watched
				*to += (*v - *to) * p.Watched / weights[i]
			}
		}
	}
	return out
}

// Size is how many bytes a record takes in a file.
const Size = 64

// Encode writes a record with its checksum, so that one that was torn is recognised.
func Encode(r Record) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, Size), uint64(r.Start.Unix()))
	for _, v := range r.values() {
		b = appendValues(b, *v)
	}
	return sealed(b)
}

// Decode reads a record; ok is false for anything but what Encode wrote.
func Decode(b []byte) (r Record, ok bool) {
	if r.Start, ok = readStart(b, Size); !ok {
		return Record{}, false
	}
	for i, v := range r.values() {
		*v = readValue(b[8+4*i:])
	}
	return r, true
}
