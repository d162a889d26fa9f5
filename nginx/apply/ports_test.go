package apply

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Which process has a socket of another user's cannot be seen; whose it is can.
func TestHeldByOthers(t *testing.T) {
	const master, user = 7, 101
	for _, row := range []struct {
		name    string
		found   listener
		account *nginx.Account
		others  bool
	}{
		{name: "free"},
		{name: "the master's", found: listener{held: true, pids: []int{master, 8}, uids: []int{user}}, account: &nginx.Account{UID: user}},
		{name: "another process's of nginx's user", found: listener{held: true, pids: []int{8}, uids: []int{user}}, account: &nginx.Account{UID: user}, others: true},
		{name: "nginx's user's, unseen", found: listener{held: true, uids: []int{user, user}}, account: &nginx.Account{UID: user}},
		{name: "another user's, unseen", found: listener{held: true, uids: []int{0}}, account: &nginx.Account{UID: user}, others: true},
		{name: "another user's beside nginx's", found: listener{held: true, uids: []int{user, 0}}, account: &nginx.Account{UID: user}, others: true},
		{name: "unseen, and so is nginx's user", found: listener{held: true, uids: []int{user}}, others: true},
		{name: "a socket that is only bound", found: listener{held: true}, account: &nginx.Account{UID: user}, others: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.found.heldByOthers(master, row.account); got != row.others {
				t.Errorf("held by others: %v", got)
			}
		})
	}
}

// Any user can listen on a UDP port beside nginx, which cannot forbid that, and takes what clients
// send: it is seen.
func TestUDPPortSharedByAnotherUser(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.o.Recheck = 50 * time.Millisecond
	r.run()
	stream := nestedStream{Listen: route.Listen{Protocol: route.UDP, Port: freePort(t)}, Family: "dns", Pool: pool(datagrams(t, func(net.Addr, []byte) string { return "good" }))}
	r.serve(r.table(nestedTable{Streams: []nestedStream{stream}}))
	shares := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	}}
	var other net.PacketConn
	err := asNobody(t, func() (err error) {
		other, err = shares.ListenPacket(context.Background(), "udp4", fmt.Sprintf("127.0.0.1:%d", stream.Listen.Port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.await("the problem", func(s nginx.Status) bool { return hasProblem(s, "port-shared") })
	other.Close()
	r.await("its end", func(s nginx.Status) bool { return !hasProblem(s, "port-shared") })
}
