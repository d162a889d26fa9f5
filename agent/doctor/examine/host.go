// Package examine checks the host, and what it needs of others, without changing
// anything.
package examine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/nagaya-ecs/nagaya/agent/dockerapi"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

const timeout = 5 * time.Second

// Docker asks the Docker Engine at host for its version.
func Docker(ctx context.Context, host string) doctor.Finding {
	const check = "docker"
	remedy := "start Docker (systemctl status docker), run this as root, or set docker.host"
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := dockerapi.New(host)
	if err != nil {
		return doctor.Bad(check, "the Docker Engine cannot be asked: "+bounded(err), remedy)
	}
	defer c.Close()
	v, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return doctor.Bad(check, fmt.Sprintf("the Docker Engine at %s does not answer: %s", host, bounded(err)), remedy)
	}
	if versions.LessThan(v.APIVersion, leastAPI) {
		return doctor.Bad(check, fmt.Sprintf("Engine %s at %s is too old (API %s, and %s is needed)", problem.Printable(v.Version, 40), host, problem.Printable(v.APIVersion, 40), leastAPI), "upgrade Docker to 19.03 or newer")
	}
	return doctor.Good(check, "Engine %s answers at %s (API %s)", problem.Printable(v.Version, 40), host, problem.Printable(v.APIVersion, 40))
}

// leastAPI is the oldest API of the Docker Engine that is understood: 19.03.
const leastAPI = "1.40"

// Port checks that nginx can listen on the TCP port, or does so already: ours is
// whether nagaya's nginx runs, and unseen why that cannot be seen.
func Port(port int, ours bool, unseen error) doctor.Finding {
	const check = "ports"
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	switch {
	case err == nil:
		_ = l.Close()
		return doctor.Good(check, "port %d is free", port)
	case errors.Is(err, syscall.EADDRINUSE) && ours:
		return doctor.Good(check, "port %d is in use, and nagaya's nginx runs", port)
	case errors.Is(err, syscall.EADDRINUSE) && unseen != nil:
		return doctor.Doubtful(check, fmt.Sprintf("port %d is in use, and whether by nagaya's nginx cannot be seen: %s", port, bounded(unseen)), "run this as root")
	case errors.Is(err, syscall.EADDRINUSE):
		return doctor.Bad(check, fmt.Sprintf("port %d is in use by another program", port),
			fmt.Sprintf("find it with 'ss -ltnp sport = :%d' and stop it (the distribution's nginx: systemctl disable --now nginx), or set nginx.http-port and nginx.https-port", port))
	case errors.Is(err, syscall.EACCES):
		return doctor.Doubtful(check, fmt.Sprintf("whether port %d is free cannot be tried: %s", port, bounded(err)), "run this as root")
	}
	return doctor.Bad(check, fmt.Sprintf("port %d cannot be listened on: %s", port, bounded(err)), "correct the network of this host")
}

// Runs reports whether the process whose id is in the file is there. The error is that this user may not read the file.
func Runs(pidFile string) (bool, error) {
	b, err := readfile.Regular(pidFile, 32)
	if errors.Is(err, fs.ErrPermission) {
		return false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b))) // of a file that is not there, nothing
	return err == nil && pid > 1 && (syscall.Kill(pid, 0) == nil || errors.Is(syscall.Kill(pid, 0), syscall.EPERM)), nil
}

// needs is the space that is to be free for what grows in each directory, in bytes; on a small
// machine /run is a tenth of little memory.
var needs = map[string]uint64{
	"state-dir": 64 << 20,  // generations, copies of certificates, what was learnt
	"run-dir":   4 << 20,   // sockets, and files of a few kB
	"log-dir":   200 << 20, // two days of logs, of which one is not compressed
}

// Directory checks that the directory is there, or can be made, that it can be
// written to, and that there is space. setting is what names it.
func Directory(setting, dir string) doctor.Finding {
	const check = "directories"
	at := dir
	for { // the agent makes what is missing
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return doctor.Bad(check, at+" is not a directory", "move it away, or set "+setting)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return doctor.Bad(check, bounded(err), "run this as root, or set "+setting)
		}
		at = filepath.Dir(at)
	}
	const writable = 2 // access(2), W_OK
	if err := syscall.Access(at, writable); err != nil {
		return doctor.Bad(check, fmt.Sprintf("%s (%s) cannot be written to: %s", dir, setting, err), "run this as root, make it writable, or set "+setting)
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(at, &s); err != nil {
		return doctor.Doubtful(check, fmt.Sprintf("the space that is left for %s is not known: %s", dir, err), "see df "+at)
	}
	return spaceFinding(setting, dir, s.Bavail*uint64(s.Bsize))
}

// spaceFinding judges how many bytes are free for a directory that can be written to.
func spaceFinding(setting, dir string, free uint64) doctor.Finding {
	const check = "directories"
	left := fmt.Sprintf("%d MiB", free>>20)
	if free >= 1<<30 {
		left = fmt.Sprintf("%d GiB", free>>30)
	}
	if need := needs[setting]; free < need {
		return doctor.Doubtful(check, fmt.Sprintf("only %s are left for %s (%s), which needs %d MiB", left, dir, setting, need>>20), "make space (df -h "+dir+"), or set "+setting)
	}
	return doctor.Good(check, "%s (%s) can be written to, %s are free", dir, setting, left)
}

// ReservedPorts checks that the ECS agent, configured in file, leaves nginx's ports
// alone. It is silent where there is no such file.
func ReservedPorts(file string, ports ...int) []doctor.Finding {
	const check = "ecs-reserved-ports"
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var value string
	for line := range bytes.Lines(b) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "ECS_RESERVED_PORTS="); ok {
			value = v
		}
	}
	have := map[string]bool{}
	for _, w := range strings.FieldsFunc(value, func(r rune) bool { return r < '0' || r > '9' }) {
		have[w] = true
	}
	for _, p := range ports {
		if !have[strconv.Itoa(p)] {
			return []doctor.Finding{doctor.Doubtful(check, fmt.Sprintf("ECS may place a task with the static host port %d here, which nginx needs", p),
				fmt.Sprintf("add ECS_RESERVED_PORTS=[22,80,443,2375,2376,51678,51679] to %s and restart the ECS agent", file))}
		}
	}
	return []doctor.Finding{doctor.Good(check, "ECS leaves nginx's ports alone")}
}

// InContainer reports whether this process runs in a container.
func InContainer() bool {
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return false
}

func bounded(err error) string { return problem.Printable(err.Error(), 300) }
