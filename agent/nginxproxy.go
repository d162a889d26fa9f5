package agent

import (
	"path/filepath"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// withoutEffect names the files below root that users of nginx-proxy mount and that
// do nothing here, if its words and directories count.
func withoutEffect(c config.Config, root string) []problem.Problem {
	if !c.NginxProxy {
		return nil
	}
	return nginxproxy.WithoutEffect(func(pattern string) bool {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are constants
		return len(found) > 0
	})
}
