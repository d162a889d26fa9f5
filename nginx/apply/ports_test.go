package apply

import (
	"testing"

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
