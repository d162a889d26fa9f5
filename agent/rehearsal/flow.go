package rehearsal

import (
	"math/bits"
	"slices"
)

// flow is a network in which nodes keep what reaches them from its source. Arc i^1 is the reverse of arc i; those with an even number
// lead as they were made.
//
// A job that may run at any time has an arc from each piece of time, and most of these never carry anything. So a search looks at
// them as little as it can: a node lists the arcs away from it that have ever carried something, and of the arcs
// towards a fan it looks at those alone that come from nodes not seen yet.
type flow struct {
	to []int32
	// next and head are by node the arcs by which something may come back or reach it, the newest first.
	next, head []int32
	fans       []fan   // by node
	degree     []int32 // by node: all its arcs
	stand
	seen  []uint64 // the nodes that the last search reached, a bit each
	via   []int32  // by node: the arc by which it did
	queue []int32  // these nodes
	work  int      // arcs of all nodes that were looked at so far
}

// fan is the arcs towards a node that come, in their order, from nodes in a row. A node without any has a count of 0.
type fan struct{ arc, from, count int32 }

// stand is how a flow stands.
type stand struct {
	room  []float64 // what each arc can still carry
	kept  []float64 // by node
	price []price   // by node, of taking what it keeps for another
}

func (s stand) clone() stand {
	return stand{slices.Clone(s.room), slices.Clone(s.kept), slices.Clone(s.price)}
}

// price is the rank in which nodes give up what they keep; the last never do.
type price uint8

const (
	free price = iota
	cheap
	dear
	fixed
)

// source is the node from which all comes.
const source = 0

// tiny is an amount of credits that is none.
const tiny = 1e-7

func newFlow(nodes int) *flow {
	f := &flow{
		head: make([]int32, nodes), fans: make([]fan, nodes), degree: make([]int32, nodes),
		seen: make([]uint64, nodes/64+1), via: make([]int32, nodes),
	}
	f.kept, f.price = make([]float64, nodes), make([]price, nodes)
	for i := range f.head {
		f.head[i] = none
	}
	return f
}

const (
	none     = -1 // no arc follows
	unlisted = -2 // the arc is in no list
)

// arc adds an arc.
func (f *flow) arc(from, to int, room float64) { f.list(int32(f.add(from, to, room) + 1)) }

// fanned is arc for a node that all arcs reach from nodes in a row, one after the other.
func (f *flow) fanned(from, to int, room float64) int {
	n := f.add(from, to, room)
	if f.fans[to].count == 0 {
		f.fans[to] = fan{arc: int32(n), from: int32(from)}
	}
	f.fans[to].count++
	return n
}

func (f *flow) add(from, to int, room float64) int {
	n := len(f.to)
	f.to = append(f.to, int32(to), int32(from))
	f.room = append(f.room, room, 0)
	f.next = append(f.next, unlisted, unlisted)
	f.degree[from]++
	f.degree[to]++
	return n
}

// list puts an arc into the list of the node at which it begins, if it is in none.
func (f *flow) list(arc int32) {
	if f.next[arc] != unlisted {
		return
	}
	at := &f.head[f.to[arc^1]]
	for *at > arc {
		at = &f.next[*at]
	}
	f.next[arc], *at = *at, arc
}

// reach looks for a shortest path to a node, backwards because credits are mostly found near it. The path begins at the source or
// at a node that gives up what it keeps at the price or less. If there is none it returns 0, and queue is every node
// from which there is a path.
func (f *flow) reach(node int, most price) (from int, found bool) {
	clear(f.seen)
	f.queue = append(f.queue[:0], int32(node))
	f.seen[node/64] |= 1 << (node % 64)
	for i := 0; i < len(f.queue); i++ {
		at := f.queue[i]
		f.work += int(f.degree[at])
		x := f.fans[at]
		for from := f.unseen(x.from, x.from+x.count); from >= 0; from = f.unseen(x.from, from) {
			if f.step(from, x.arc+2*(from-x.from), most) {
				return int(from), true
			}
		}
		for a := f.head[at]; a >= 0; a = f.next[a] {
			if from := f.to[a]; f.seen[from/64]&(1<<(from%64)) == 0 && f.step(from, a^1, most) {
				return int(from), true
			}
		}
	}
	return 0, false
}

// step goes from a node by an arc that leads on, if that has room, and reports whether the path begins there.
func (f *flow) step(from, arc int32, most price) bool {
	if f.room[arc] <= tiny {
		return false
	}
	f.seen[from/64] |= 1 << (from % 64)
	f.via[from] = arc
	f.queue = append(f.queue, from)
	return from == source || f.kept[from] > tiny && f.price[from] <= most
}

// unseen is the last node from first on and before end that the search has not reached; less than 0 if there is none.
func (f *flow) unseen(first, end int32) int32 {
	for end > first {
		word := (end - 1) / 64
		open := ^f.seen[word] << (63 - (end-1)%64) // those before end
		if open != 0 {
			if last := end - 1 - int32(bits.LeadingZeros64(open)); last >= first {
				return last
			}
			return -1
		}
		end = word * 64
	}
	return -1
}

// fill gives a node up to so much at the price or less, and says what it got.
func (f *flow) fill(node int, wanted float64, most price) (got float64) {
	for got < wanted-tiny {
		from, found := f.reach(node, most)
		if !found {
			break
		}
		sent := wanted - got
		if from != source {
			sent = min(sent, f.kept[from])
		}
		for at := from; at != node; at = int(f.to[f.via[at]]) {
			sent = min(sent, f.room[f.via[at]])
		}
		for at := from; at != node; {
			a := f.via[at]
			f.room[a] -= sent
			f.room[a^1] += sent
			if a%2 == 0 {
				f.list(a)
			}
			at = int(f.to[a])
		}
		f.kept[from] -= sent
		f.kept[node] += sent
		got += sent
	}
	return got
}
