package nginx

import "path"

// Dirs are where one nginx has its files. All are absolute paths.
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

// MainFile is the path that nginx is started with; a swap changes the link in it.
func (d Dirs) MainFile() string { return path.Join(d.State, CurrentLink, MainFile) }

// Instance is a running nginx, and how it is seen from here.
type Instance struct {
	// Master is the process number of its master; 0 means that none runs.
	Master int
	// Container is the id of the container that it is in, or "".
	Container string
	// Net is the /proc/PID/net of its network; "" where that cannot be seen.
	Net string
	// Scratch is a directory below which its binary sees what is written here; "" is
	// the system's own for temporary files.
	Scratch string
	// MasterAccount and WorkerAccount are nil where they cannot be seen.
	MasterAccount, WorkerAccount *Account
}

// Account is the effective user and group of a process.
type Account struct{ UID, GID int }

// Workers are the children of a master, as process numbers, the oldest first.
type Workers struct {
	// Alive is false when the master has ended or its number is another process's. It
	// is true while that cannot be seen.
	Alive bool
	// Active accept connections, Draining finish what they have begun, Starting have
	// been forked and are not workers yet.
	Active, Draining, Starting []int
}

// Signal is what a process of nginx can be told (nginx.org, "Controlling nginx").
type Signal int

const (
	// Reload has the master load the current generation.
	Reload Signal = iota
	// Retire has a worker finish what it has begun, and accept nothing new.
	Retire
	// End ends a worker at once.
	End
)
