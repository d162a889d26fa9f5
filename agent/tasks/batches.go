package tasks

// Batches returns the ids of the local batch containers that run or are paused, sorted. The brake
// holds them back, and the meter counts their CPU time apart.
func (s Snapshot) Batches() []string {
	var ids []string
	for _, c := range s.Containers {
		if c.Origin == Local && c.IsBatch() && (c.State == Running || c.State == Paused) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
