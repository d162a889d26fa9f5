package event

// Field is one key of the log lines: task is NAGAYA_TASK= in the journal.
type Field struct {
	Key     string
	Meaning string
	// About says that it is what an event is about: the same event about another
	// thing is another line, however soon it comes.
	About bool
}

// Fields are all keys that log lines have. One thing has one key everywhere.
var Fields = []Field{
	{"event", "kind of the event, or code of the problem", false},
	{"instance", "id of this instance; in every entry once it is known", false},
	{"address", "Elastic IP; in every entry while one is held", true},
	{"generation", "configuration that nginx serves or is to load; in every entry", true},
	{"credits", "CPU-credit balance; in every entry while it is known", false},
	{"host", "host name that is served, or protocol and port of a stream", true},
	{"path", "path prefix of the route", true},
	{"container", "id of the container", true},
	{"container_name", "name of the container", true},
	{"task", "ARN of the ECS task", true},
	{"family", "who holds the host name: task family, Compose service or container", false},
	{"addr", "address and port at which the container is reached", false},
	{"servers", "containers behind the route now", false},
	{"decision", "what was decided, in one word", false},
	{"reason", "why", false},

	{"problem", "code of the problem", true},
	{"subject", "what has the problem", true},
	{"text", "what is wrong", false},
	{"hint", "what to do about it", false},
	{"err", "error as it came", false},
	{"after", "how long it took or stood", false},
	{"took", "how long it took", false},
	{"retry_in", "when it is tried again", false},
	{"repeated", "how many equal lines this one stands for", false},

	{"version", "version of nagaya", false},
	{"pid", "process", false},
	{"signal", "signal that was sent", false},
	{"unit", "unit of systemd", false},
	{"file", "file", true},
	{"dir", "directory", true},
	{"every", "how often", false},
	{"until", "until when", false},
	{"at", "for when, or as of when", false},

	{"instance_type", "type of this instance", false},
	{"region", "Region of this instance", false},
	{"zone", "Availability Zone of this instance", false},
	{"life_cycle", "on-demand or spot", false},
	{"interface", "network interface", false},
	{"local_addr", "private address of this instance", false},
	{"kind", "kind of the notice", true},

	{"claim", "what address.claim says", true},
	{"allocation_id", "allocation id of the Elastic IP", false},
	{"association_id", "association id of the Elastic IP", false},
	{"private_addr", "private address that the Elastic IP is on", false},
	{"policy", "address.policy", false},
	{"holder_tag", "value of the holder tag", false},
	{"holder", "who has the address: self, other, nobody, service", false},
	{"holder_id", "instance that has the address", false},
	{"holder_state", "EC2's state of that instance", false},
	{"holder_launched", "when that instance was launched", false},
	{"holder_leaving", "whether its holder tag says that it leaves", false},
	{"holder_leaving_for", "for how long it has said so", false},
	{"holder_silent", "whether it does not answer any more", false},
	{"launched", "when this instance was launched", false},
	{"ready", "whether this instance can serve", false},
	{"unready", "why not", false},
	{"uncovered", "what the holder serves and this instance does not", false},
	{"leaving", "whether this instance leaves", false},
	{"asked", "whether the operator asked for the address", false},
	{"released", "whether the operator released the address", false},
	{"reassociate", "whether it may be taken from a holder", false},
	{"budget_at", "when the next association may be made", false},
	{"held", "whether the address was here", false},
	{"now", "whether it is freed at once", false},

	{"engine", "where the Docker Engine is", false},
	{"url", "where the ECS agent is", false},
	{"containers", "containers in the list", false},
	{"tasks", "tasks in the list", false},
	{"complete", "whether all is known", false},
	{"upstreams", "upstreams in the files", false},
	{"problems", "problems found", false},
	{"pairs", "pairs of certificate and key", false},
	{"state", "what the probe found", false},
	{"detail", "what the probe found in words", false},

	{"wanted", "configuration that is wanted", false},
	{"quarantined", "sites that nginx refuses", false},
	{"last_good", "whether the site's last good configuration is served", false},
	{"sites", "sites", false},
	{"draining", "old workers that finish what they began", false},
	{"limit", "how many of them are allowed", false},
	{"first", "first of the files", false},
	{"was", "what had become of it", false},
	{"files", "files", false},
	{"reload", "whether nginx has to load them", false},

	{"burstable", "whether the instance earns CPU credits", false},
	{"mode", "credit mode: standard or unlimited", false},
	{"about", "what was asked", true},
	{"vcpus", "processors that each running batch may use", false},
	{"error_bar", "how wrong the balance may be, in credits", false},
	{"reserve", "credits that batches leave", false},
	{"headroom", "credits that batches may spend", false},
	{"promised", "credits that are promised to jobs", false},
	{"free", "headroom that is not promised", false},
	{"known", "whether the balance is known", false},
	{"job", "name of the job", true},
	{"job_id", "id of the job", true},
	{"expected", "credits that the job is expected to spend", false},
	{"spent", "credits that the job has spent", false},
	{"deadline", "when the job must have ended", false},
	{"outlet", "where the gate is published", true},
	{"target", "which of those", true},
	{"note", "remark of the gate", true},
}

// Abouts are the keys of what an event can be about.
func Abouts() []string {
	var keys []string
	for _, f := range Fields {
		if f.About {
			keys = append(keys, f.Key)
		}
	}
	return keys
}

// Journald are the fields that others write too, for the keys that have the same
// meaning: Docker's journald log driver marks a container's own lines with them.
func Journald() map[string]string {
	return map[string]string{"container": "CONTAINER_ID_FULL", "container_name": "CONTAINER_NAME"}
}
