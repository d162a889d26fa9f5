package rehearsal

import (
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
