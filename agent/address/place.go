package address

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Place is where an address goes on this instance.
type Place struct {
	InterfaceID string     `json:"interface_id,omitempty"`
	PrivateAddr netip.Addr `json:"private_addr,omitzero"`
}

// String is the private address, or else the interface.
func (p Place) String() string {
	if p.PrivateAddr.IsValid() {
		return p.PrivateAddr.String()
	}
	return p.InterfaceID
}

// Interface is one network interface of this instance with its private IPv4
// addresses that may be used, the primary one first.
type Interface struct {
	ID           string
	PrivateAddrs []netip.Addr
}

// PrimaryFirst returns the interfaces with the named one in front; none where it is not
// among them.
func PrimaryFirst(all []Interface, primary string) []Interface {
	i := slices.IndexFunc(all, func(n Interface) bool { return n.ID == primary })
	if i < 0 {
		return nil
	}
	return slices.Concat(all[i:i+1], all[:i], all[i+1:])
}

// Want is one claim, and where its address is on this instance already, if it is.
type Want struct {
	Claim Claim
	Here  Place
}

// Placed is where a claim goes; or why nowhere, as one clause.
type Placed struct {
	Place  Place
	Reason string
}

// NeedInterfaces reports whether the primary interface's own private address is
// not enough to place the claims, so that EC2 must say what else there is.
func NeedInterfaces(claims []Claim, primary Interface) bool {
	return len(claims) > 1 || slices.ContainsFunc(claims, func(c Claim) bool {
		return c.Place.InterfaceID != "" && c.Place.InterfaceID != primary.ID || c.Place.PrivateAddr.IsValid() && !slices.Contains(primary.PrivateAddrs, c.Place.PrivateAddr)
	})
}

// AssignPlaces says where each claim goes. An address that is here already stays where it
// is. A claim that names its place gets that one. The others get the private
// addresses of the first interface, the primary one, in order.
func AssignPlaces(wants []Want, own []Interface) []Placed {
	if len(own) == 0 {
		own = []Interface{{}}
	}
	all, taken := make([]Placed, len(wants)), map[netip.Addr]bool{}
	for i, w := range wants {
		if w.Here != (Place{}) {
			all[i].Place = w.Here
			taken[w.Here.PrivateAddr] = true
		}
	}
	for i, w := range wants {
		if w.Here == (Place{}) && w.Claim.Place != (Place{}) {
			all[i] = findPlace(w.Claim.Place, own)
			switch at := all[i].Place.PrivateAddr; {
			case all[i].Reason != "":
			case taken[at]:
				all[i] = Placed{Reason: fmt.Sprintf("private address %s has another claimed address already", at)}
			default:
				taken[at] = true
			}
		}
	}
	free := slices.DeleteFunc(slices.Clone(own[0].PrivateAddrs), func(a netip.Addr) bool { return taken[a] })
	for i, w := range wants {
		switch {
		case w.Here != (Place{}) || w.Claim.Place != (Place{}):
		case len(free) > 0:
			all[i].Place = Place{InterfaceID: own[0].ID, PrivateAddr: free[0]}
			free = free[1:]
		default:
			all[i].Reason = fmt.Sprintf("the primary network interface %s has no private IPv4 address left for it", own[0].ID)
		}
	}
	return all
}

// findPlace finds the place that a claim names among the interfaces.
func findPlace(at Place, own []Interface) Placed {
	for _, n := range own {
		if at.InterfaceID == n.ID && n.ID != "" && len(n.PrivateAddrs) > 0 {
			return Placed{Place: Place{InterfaceID: n.ID, PrivateAddr: n.PrivateAddrs[0]}}
		}
		if at.PrivateAddr.IsValid() && slices.Contains(n.PrivateAddrs, at.PrivateAddr) {
			return Placed{Place: Place{InterfaceID: n.ID, PrivateAddr: at.PrivateAddr}}
		}
	}
	if at.InterfaceID != "" {
		return Placed{Reason: fmt.Sprintf("this instance has no network interface %s with a free private IPv4 address", at.InterfaceID)}
	}
	return Placed{Reason: fmt.Sprintf("no network interface of this instance has the private address %s free", at.PrivateAddr)}
}

// BorderGroup is the network border group of a zone of a Region: the Region for
// its own zones, the zone without its last letter for a Local Zone, and the zone
// itself for a Wavelength Zone (EC2 User Guide, "Regions and Zones"). It is empty
// when that cannot be told.
func BorderGroup(region, zone string) string {
	rest, ok := strings.CutPrefix(zone, region)
	last := len(zone) - 1
	switch {
	case region == "" || !ok || rest == "":
		return ""
	case len(rest) == 1:
		return region
	case strings.Contains(rest, "-wlz-"):
		return zone
	case zone[last] >= 'a' && zone[last] <= 'z':
		return zone[:last]
	}
	return ""
}
