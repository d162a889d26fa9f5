package rehearsal

import (
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Dollars an hour on demand, Linux, us-east-1 (EC2 price list), for the smallest size, and GiB of
// memory; both about double from size to size. Other Regions cost more or less.
var (
	nanoPrice = map[string]float64{"t2": 0.0058, "t3": 0.0052, "t3a": 0.0047, "t4g": 0.0042}
	// T2's small is a little cheaper than double.
	oddPrice  = map[string]float64{"t2.small": 0.023}
	sizeOrder = []string{"nano", "micro", "small", "medium", "large", "xlarge", "2xlarge"}
)

// Offer returns a type with its price and memory; price, if more than 0, is taken instead of the list's. T8i is in no list
// yet: its price is 0 unless it is given.
func Offer(name string, price float64) (Type, bool) {
	spec, ok := credit.Lookup(strings.ToLower(name))
	if !ok {
		return Type{}, false
	}
	family, size, _ := strings.Cut(spec.Type, ".")
	t := Type{Spec: spec, Price: nanoPrice[family], Memory: 0.5}
	for _, s := range sizeOrder {
		if s == size {
			break
		}
		t.Price *= 2
		t.Memory *= 2
	}
	if odd, is := oddPrice[spec.Type]; is {
		t.Price = odd
	}
	if price > 0 {
		t.Price = price
	}
	return t, true
}

// larger are the larger sizes of a type's family, the smallest first.
func larger(s credit.Spec) (all []credit.Spec) {
	family, size, _ := strings.Cut(s.Type, ".")
	for _, name := range sizeOrder[slices.Index(sizeOrder, size)+1:] {
		if spec, ok := credit.Lookup(family + "." + name); ok {
			all = append(all, spec)
		}
	}
	return all
}

// Prices of a large, as above, of families without CPU credits: two vCPUs, and double from size to size.
var largePrice = map[string]float64{
	"m4": 0.10, "m5": 0.096, "m5a": 0.086, "m6i": 0.096, "m6a": 0.0864, "m6g": 0.077, "m7i": 0.1008, "m7g": 0.0816,
	"c4": 0.10, "c5": 0.085, "c5a": 0.077, "c6i": 0.085, "c6a": 0.0765, "c6g": 0.068, "c7i": 0.08925, "c7g": 0.0725,
	"r5": 0.126, "r5a": 0.113, "r6i": 0.126, "r6g": 0.1008,
}

// Host returns a type that is not burstable, without its memory, as one that an instance has today; false where it is not known.
func Host(name string) (Type, bool) {
	family, size, _ := strings.Cut(name, ".")
	price, ok := largePrice[family]
	if !ok {
		return Type{}, false
	}
	vcpus := 2
	for _, s := range []string{"large", "xlarge", "2xlarge"} {
		if s == size {
			return Type{Spec: credit.Spec{Type: name, VCPUs: vcpus}, Price: price}, true
		}
		price, vcpus = 2*price, 2*vcpus
	}
	return Type{}, false
}
