package history

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// latestStart is in the year 9999, beyond which times cannot be written as JSON.
const latestStart = 253402300799

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed appends to what is written its checksum, so that what was torn is recognised.
func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// whole reports whether what was read has its size and its checksum.
func whole(b []byte, size int) bool {
	return len(b) == size && crc32.Checksum(b[:size-4], castagnoli) == binary.LittleEndian.Uint32(b[size-4:])
}

// readStart reads the time with which something begins that was read; ok is false if it is not whole, and for the zeros of
// a place that was never written.
func readStart(b []byte, size int) (start time.Time, ok bool) {
	if !whole(b, size) {
		return time.Time{}, false
	}
	at := int64(binary.LittleEndian.Uint64(b))
	return time.Unix(at, 0).UTC(), at > 0 && at <= latestStart
}

func appendValues(b []byte, all ...Value) []byte {
	for _, v := range all {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

func readValue(b []byte) Value { return Value(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
