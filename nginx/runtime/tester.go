package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// The unit of nginx has another beside it which runs nginx -t with nginx's user, directories
// and restrictions, once for each connection to its socket. A child of the agent would have
// the agent's rights, and nginx's directories are not the agent's.

// testSocketFile is the socket of that unit, beside nginx's run directory.
const testSocketFile = "nginx-test.sock"

// errNoTester is wrapped by the error of a test where that socket cannot be connected to.
var errNoTester = errors.New("nothing runs tests as nginx's user")

// testSocket is the name of the socket's unit.
func (u *unit) testSocket() string { return strings.TrimSuffix(u.o.Unit, ".service") + "-test.socket" }

// testedAsNginx returns the configuration of a test that nginx's user has to run; would is the
// one that the unit names. That is none where nginx runs as this process's user, as it does
// after an upgrade from nagaya 0.1 until it is restarted: its directories are still that user's.
// Nor is it one that is elsewhere than in the state directory, as that of `nagaya check`, which
// the unit of tests cannot see.
func (u *unit) testedAsNginx(args []string, would string) (config string, ok bool) {
	at := slices.Index(args, "-c") + 1
	if !slices.Contains(args, "-t") || at == 0 || at == len(args) || !strings.HasPrefix(args[at], u.o.Dirs.State+"/") {
		return "", false
	}
	if master := u.master(); master != 0 {
		a := account(master)
		return args[at], a == nil || a.UID != os.Geteuid()
	}
	found, err := user.Lookup(would)
	return args[at], err != nil || found.Uid != strconv.Itoa(os.Geteuid())
}

// test has the unit run nginx -t. Its answer is what nginx says, and a last line with the exit
// status. nginx's user may have forged it: it is bounded, and decides about nginx alone.
func (u *unit) test(ctx context.Context, binary, config string) (output string, exit int, err error) {
	socket := filepath.Join(filepath.Dir(u.o.Dirs.Run), testSocketFile)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", errNoTester, err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	out := &tail{limit: maxOutput}
	_, err = fmt.Fprintf(conn, "%s\n%s\n%s\n", binary, config, u.o.Dirs.State)
	if err == nil {
		_, err = io.Copy(out, conn)
	}
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	text := strings.TrimSuffix(out.String(), "\n")
	at := strings.LastIndexByte(text, '\n') + 1
	status, found := strings.CutPrefix(text[at:], "exit ")
	exit, wrong := strconv.Atoi(status)
	if err != nil || !found || wrong != nil {
		return "", 0, fmt.Errorf("%s@.service has ended without an answer (%q), and the journal may say why: %w", strings.TrimSuffix(u.testSocket(), ".socket"), nginx.Printable(text[at:]), cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return text[:at], exit, nil
}
