package route

// LiveHosts lists the hosts that have a container behind every path, in order.
func (t Table) LiveHosts() []string {
	var hosts []string
	for _, s := range t.Sites {
		if s.live() {
			hosts = append(hosts, s.Host)
		}
	}
	return hosts
}

func (s Site) live() bool {
	for _, l := range s.Locations {
		if len(l.Servers) == 0 {
			return false
		}
	}
	if s.Passthrough != nil {
		return len(s.Passthrough.Servers) > 0
	}
	return len(s.Locations) > 0
}
