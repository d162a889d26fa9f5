package event

// Abouts are the keys of what an event can be about: the same event about another thing is
// another line, however soon it comes. So is another decision, and the same for another reason or
// about another holder.
func Abouts() []string {
	return []string{
		"address", "generation", "host", "path", "container", "container_name", "task", "problem", "subject", "file",
		"dir", "kind", "claim", "about", "job", "job_id", "outlet", "target", "note",
		"decision", "reason", "holder_id", "vcpus",
	}
}

// Journald are the fields that others write too, for the keys that have the same
// meaning: Docker's journald log driver marks a container's own lines with them.
func Journald() map[string]string {
	return map[string]string{"container": "CONTAINER_ID_FULL", "container_name": "CONTAINER_NAME"}
}
