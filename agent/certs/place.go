package certs

import (
	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// PlaceOf says where public names have to lead: to the claimed addresses that are held here, else to
// the public addresses of the instance. claimed is true where addresses are claimed, metadata where the instance's
// metadata can be read; without either it is not known to which addresses.
func PlaceOf(claimed, metadata bool, r address.Report, i identity.Instance) Place {
	if !claimed {
		return Place{Known: i.Known || !metadata, Here: true, Addresses: i.PublicAddrs()}
	}
	var p Place
	for _, c := range r.All() {
		p.Known = p.Known || c.Known
		if c.Held() && c.Verified {
			p.Addresses = append(p.Addresses, c.Address.PublicIP)
		}
	}
	p.Here = len(p.Addresses) > 0
	return p
}

// Join is the inventory of the operator's files together with that of what was issued. It is complete when
// both are.
func Join(files, issued Inventory) Inventory {
	v := files
	v.Complete = files.Complete && issued.Complete
	if issued.At.After(v.At) {
		v.At = issued.At
	}
	v.Issued = issued.Pairs
	v.Gone = append(v.Gone[:len(v.Gone):len(v.Gone)], issued.Gone...)
	v.Problems = append(v.Problems[:len(v.Problems):len(v.Problems)], issued.Problems...)
	return v
}
