package nginx

import "path"

// Dirs are the directories of one nginx, as absolute paths.
type Dirs struct {
	// State holds the generations; it must be on a disk.
	State string
	// Run holds the pid file and the private sockets; it may be in memory.
	Run string
	// Log holds error.log; empty means that nginx logs to stderr.
	Log string
}

// Dirs returns the directories of these settings.
func (s Settings) Dirs() Dirs { return Dirs{State: s.StateDir, Run: s.RunDir, Log: s.LogDir} }

// CurrentLink is the name of the symbolic link in a state directory that leads to the
// generation which nginx reads when it starts or reloads.
const CurrentLink = "current"

// MainFile is the path of the main file that nginx is started with; CurrentLink is in it.
func (d Dirs) MainFile() string { return path.Join(d.State, CurrentLink, MainFile) }

// Instance is an nginx, and what is known of its processes.
type Instance struct {
	// Master is the process number of its master; 0 means that none runs.
	Master int
	// Container is the id of the container that it is in, or "".
	Container string
	// Net is the /proc/PID/net of its network; "" where that cannot be seen.
	Net string
	// Scratch is a directory for temporary files that its binary can read; "" is the
	// system's default.
	Scratch string
	// MasterAccount and WorkerAccount are nil where they cannot be seen.
	MasterAccount, WorkerAccount *Account
}

// Account is the effective user and group of a process.
type Account struct{ UID, GID int }

// Workers are the children of a master, as process numbers, the oldest first.
type Workers struct {
	// Alive is false when the master has ended or its number is another process's. It
	// is true while that is not known.
	Alive bool
	// Active accept connections, Draining finish their requests, Starting have
	// been forked and are not workers yet.
	Active, Draining, Starting []int
}

// Signal is a signal to a process of nginx (nginx.org, "Controlling nginx").
type Signal int

const (
	// Reload has the master load the current generation.
	Reload Signal = iota
	// Retire has a worker drain: it finishes its requests and accepts no connections.
	Retire
	// End ends a worker at once.
	End
	// Reopen has the master and its workers open their logs again.
	Reopen
)
