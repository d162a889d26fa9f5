package agent

import (
	"fmt"
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
	var all []problem.Problem
	for _, f := range nginxproxy.Files {
		found, _ := filepath.Glob(filepath.Join(root, f.Pattern)) // the patterns are constants
		if len(found) == 0 {
			continue
		}
		all = append(all, problem.Problem{
			Code: "nginx-proxy-unsupported", Severity: problem.Warning, Subject: "file " + f.Pattern, File: f.Pattern,
			Text: fmt.Sprintf("%s has no effect: %s", f.Pattern, f.Here), Hint: f.Remedy,
		})
	}
	return all
}
