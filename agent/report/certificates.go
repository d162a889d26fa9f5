package report

import (
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Certificates are those of all sites: what is ordered, and the operator's files.
func (s Status) Certificates() certs.Report {
	r := s.Orders
	if !r.On {
		r = certs.Report{At: s.At, Entries: certs.Decide(certs.Input{Now: s.At, Files: s.Certs}).Entries}
	}
	hosts := map[string][]string{} // by file
	for _, site := range s.Routes.Sites {
		if site.TLS {
			hosts[site.Cert.CertFile] = append(hosts[site.Cert.CertFile], site.Host)
		}
	}
	r.Entries = append([]certs.Entry{}, r.Entries...)
	for i, e := range r.Entries {
		if used := hosts[e.File]; e.Source == "file" && len(used) > 0 {
			r.Entries[i].Hosts = slices.Compact(slices.Sorted(slices.Values(append(used, e.Hosts...))))
		}
	}
	return r
}
