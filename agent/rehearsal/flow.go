package rehearsal

import "slices"

// flow is a network in which nodes keep what reaches them from its source. Arc i^1 is the reverse of arc i.
type flow struct {
	to, next, head []int32
	stand
	seen, via []int32 // by node: the search that last reached it, and the arc by which
	search    int32
	queue     []int32 // the nodes that the last search reached
	work      int     // arcs looked at so far
}

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
	f := &flow{head: make([]int32, nodes), seen: make([]int32, nodes), via: make([]int32, nodes)}
	f.kept, f.price = make([]float64, nodes), make([]price, nodes)
	for i := range f.head {
		f.head[i] = -1
	}
	return f
}

// arc adds an arc and returns its number.
func (f *flow) arc(from, to int, room float64) int {
	n := len(f.to)
	f.to = append(f.to, int32(to), int32(from))
	f.room = append(f.room, room, 0)
	f.next = append(f.next, f.head[from], f.head[to])
	f.head[from], f.head[to] = int32(n), int32(n+1)
	return n
}

// reach looks for a shortest path to a node, backwards because credits are mostly found near it. The path begins at the source or
// at a node that gives up what it keeps at the price or less. If there is none it returns 0, and queue is every node
// from which there is a path.
func (f *flow) reach(node int, most price) (from int, found bool) {
	f.search++
	f.queue = append(f.queue[:0], int32(node))
	f.seen[node] = f.search
	for i := 0; i < len(f.queue); i++ {
		for a := f.head[f.queue[i]]; a >= 0; a = f.next[a] {
			f.work++
			from := f.to[a]
			if f.room[a^1] <= tiny || f.seen[from] == f.search {
				continue
			}
			f.seen[from], f.via[from] = f.search, a^1
			if from == source || f.kept[from] > tiny && f.price[from] <= most {
				return int(from), true
			}
			f.queue = append(f.queue, from)
		}
	}
	return 0, false
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
			at = int(f.to[a])
		}
		f.kept[from] -= sent
		f.kept[node] += sent
		got += sent
	}
	return got
}
