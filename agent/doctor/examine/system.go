package examine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// OtherNginx looks for the distribution's nginx.service, which wants the same ports
// as nagaya's, now or at the next boot. It is silent where systemd does not run. wants
// is where the units are that systemd starts at boot.
func OtherNginx(ctx context.Context, wants string) []doctor.Finding {
	const check, unit = "nginx-service", "nginx.service"
	const remedy = "systemctl disable --now nginx; put sites of your own into nginx.snippet-dir or routes.dir"
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u, err := systemd.LookUnit(ctx, unit)
	_, enabled := os.Lstat(filepath.Join(wants, unit))
	switch {
	case errors.Is(err, systemd.ErrNoBus):
		return nil
	case err != nil:
		return []doctor.Finding{doctor.Doubtful(check, "the state of nginx.service is not known: "+bounded(err), "systemctl status nginx")}
	}
	return []doctor.Finding{nginxFinding(check, u, enabled == nil, remedy)}
}

func nginxFinding(check string, u systemd.Unit, enabled bool, remedy string) doctor.Finding {
	switch {
	case u.Active == "active" || u.Active == "activating":
		return doctor.Doubtful(check, "the distribution's nginx.service runs beside nagaya's nginx; where both want a port, one does not get it", remedy)
	case enabled && u.Load != "masked":
		return doctor.Doubtful(check, "the distribution's nginx.service starts at the next boot and may take the ports before nagaya's nginx does", remedy)
	}
	return doctor.Good(check, "the distribution's nginx.service is not in the way")
}

// Cgroup finds the version of cgroups that is mounted at dir, where the CPU time of
// batches is read.
func Cgroup(dir string) doctor.Finding {
	const check = "cgroup"
	const version2 = 0x63677270 // CGROUP2_SUPER_MAGIC, statfs(2)
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return doctor.Doubtful(check, fmt.Sprintf("there are no cgroups at %s: %s; batches' CPU time counts as the services'", dir, err), "mount them there, or set credit.cgroup-dir")
	}
	if s.Type == version2 {
		return doctor.Good(check, "cgroups at %s are of version 2", dir)
	}
	for _, accounts := range []string{"cpuacct", "cpu,cpuacct"} {
		if _, err := os.Stat(filepath.Join(dir, accounts)); err == nil {
			return doctor.Good(check, "cgroups at %s are of version 1, which works too", dir)
		}
	}
	return doctor.Doubtful(check, fmt.Sprintf("what is at %s does not count CPU time; batches' counts as the services'", dir),
		"mount cgroups there (version 2, or cpuacct of version 1), or set credit.cgroup-dir")
}

// Journal checks where the log goes: root is the file system's, "" for this
// host's own, and event the MESSAGE_ID of any of nagaya's, which journalctl should
// be able to explain.
func Journal(root, event string) []doctor.Finding {
	const check = "journal"
	at := func(path string) string { return filepath.Join("/", root, path) }
	if _, err := os.Stat(at("run/systemd/journal/socket")); err != nil {
		return []doctor.Finding{doctor.Doubtful(check, "there is no journal here: the agent logs to stderr, without fields", "run the agent under systemd, or collect its stderr")}
	}
	var found []doctor.Finding
	if _, err := os.Stat(at("var/log/journal")); err != nil {
		found = append(found, doctor.Doubtful(check, "the journal is in memory alone, and gone after a reboot",
			"mkdir -p /var/log/journal && systemctl restart systemd-journald (Storage= in journald.conf must not be volatile)"))
	}
	id, _ := hex.DecodeString(event) // as the catalog has it
	text, err := os.ReadFile(at("var/lib/systemd/catalog/database"))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		found = append(found, doctor.Doubtful(check, "the catalog cannot be read: "+bounded(err), "run this as root"))
	case !bytes.Contains(text, id):
		found = append(found, doctor.Doubtful(check, "journalctl -x does not explain nagaya's events: they are not in its catalog",
			"put nagaya.catalog of the package into /usr/lib/systemd/catalog, then run journalctl --update-catalog"))
	}
	if found == nil {
		found = []doctor.Finding{doctor.Good(check, "the journal is kept on the disk, and explains nagaya's events")}
	}
	return found
}
