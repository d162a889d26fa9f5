package box

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// ShellOptions say what Shell plays.
type ShellOptions struct {
	// Bin and Tar are those of Options.
	Bin, Tar string
	// Package is the .deb to install.
	Package string
	// UserData is the file of the shipped user data, packaging/user-data/ecs.sh.
	UserData string
	// Count is how many boxes there are.
	Count int
	// Command is run instead of a shell.
	Command []string
	// Out is told what happens.
	Out io.Writer
}

// sampleHosts are served by every box of Shell.
var sampleHosts = []string{"shop.example.com", "blog.example.com"}

// PackageFile is where FirstBoot finds the package.
const PackageFile = "/root/nagaya.deb"

// FirstBoot is the shipped user data with its settings filled in, as an operator does: the
// package is on the box, which joins the cluster.
func FirstBoot(userData, cluster string) string {
	shebang, rest, _ := strings.Cut(userData, "\n")
	return shebang + "\nPACKAGE=" + PackageFile + " CLUSTER=" + cluster + "\n" + rest
}

const hint = `
This is %s, and %s is its Elastic IP. Try:

  nagaya status                      what it saw, wanted and did
  nagaya doctor                      what is wrong with this host
  curl --cacert /etc/nagaya/ca.crt --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/
  journalctl -u nagaya -f            its journal
  docker stop shop                   a task ends;  docker start shop  and is back
  kill -9 $(pidof nagaya)            the agent dies, and nothing else does
  systemctl restart docker           so does the engine
  systemctl list-units 'nagaya*'     what the package brought
  nagaya leave                       give the address to another instance (make box COUNT=2)

Exit takes everything away.
`

// Shell starts boxes as an operator does, waits until they serve, and gives a shell on
// the first. Everything is taken away at the end.
func Shell(ctx context.Context, o ShellOptions) (err error) {
	if o.Count < 1 || o.Count > 9 {
		return fmt.Errorf("--count %d is not within 1 and 9", o.Count)
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return err
	}
	content, err := os.ReadFile(o.Package)
	if err != nil {
		return err
	}
	userData, err := os.ReadFile(o.UserData)
	if err != nil {
		return err
	}
	fmt.Fprintln(o.Out, "making the image of a box")
	s, err := New(ctx, Options{Bin: o.Bin, Tar: o.Tar, Hosts: sampleHosts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Cloud.AddAddress(simaws.AddressSpec{AllocationID: simaws.DefaultAllocation, PublicIP: simaws.DefaultPublicIP}); err != nil {
		return err
	}
	for n := range o.Count {
		b, err := s.Launch(ctx, Launch{
			Spec: simaws.InstanceSpec{
				LaunchTime: time.Now().Add(-time.Duration(o.Count-n) * 24 * time.Hour), CreditMode: simaws.Standard, CPUPercent: 5, UserData: FirstBoot(string(userData), "default"),
				Tags: map[string]string{"nagaya:address-claim": simaws.DefaultAllocation, "nagaya:address-policy": "standby"},
			},
			Files: map[string]File{PackageFile: {Content: content}},
			Tasks: map[string][]string{"shop": Task("shop", sampleHosts[0]), "blog": Task("blog", sampleHosts[1])},
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Out, "%s boots: docker exec -it %s bash\n", b.InstanceID, b.Name)
		if err := stage.Until(ctx, 2*time.Minute, b.Name+" serves", func() error {
			out, code, err := b.Exec(ctx, "curl", "-fsS", "-o", "/dev/null", "--cacert", "/etc/nagaya/ca.crt",
				"--resolve", sampleHosts[0]+":443:127.0.0.1", "https://"+sampleHosts[0]+"/")
			if err == nil && code != 0 {
				err = errors.New(out)
			}
			return err
		}); err != nil {
			return err
		}
	}
	first := s.boxes[0]
	command := o.Command
	if len(command) == 0 {
		fmt.Fprintf(o.Out, hint, first.InstanceID, simaws.DefaultPublicIP)
		command = []string{"bash", "-l"}
	}
	return first.attach(ctx, docker, command)
}

// attach runs a command on the box with this process's own standard streams.
func (b *Box) attach(ctx context.Context, docker string, command []string) error {
	streams := "-i"
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil { // a terminal
		streams = "-it"
	}
	cmd := exec.CommandContext(ctx, docker, append([]string{"exec", streams, "-w", "/root", "-e", "TERM=" + cmp.Or(os.Getenv("TERM"), "dumb"), b.Name}, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("on %s: %w", b.Name, err)
	}
	return nil
}
