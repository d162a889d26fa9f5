package agent

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/install"
)

// quiet is how long nothing must have been said before anything is foreseen: whoever
// starts needs the processor more.
const quiet = 30 * time.Millisecond

// outlook is what the planner expects of the containers that are on their way.
type outlook struct {
	put  func(install.Outlook) // may be nil
	from *route.Input          // what is to be foreseen from; nil when that is done
	tree string                // the generation that was foreseen last
	more bool                  // whether more containers were to come
	till time.Time             // when what is foreseen will have changed by itself
}

// foresee gives away the tree that will be wanted when the containers on their way
// serve, or none where that is the one of now, and whether more are to come.
func (p *planner) foresee() {
	in := *p.outlook.from
	p.outlook.from = nil
	var tree nginx.Tree
	table, ok := route.Foresee(in)
	if p.outlook.till = table.Next; ok {
		tree = nginx.Render(p.settings, p.nginx, table.Shape, table.Pools)
	}
	if tree.Generation == p.tree {
		tree = nginx.Tree{}
	}
	more := tree.Generation != "" || route.Awaited(in)
	if tree.Generation != p.outlook.tree || more != p.outlook.more {
		p.outlook.tree, p.outlook.more = tree.Generation, more
		p.outlook.put(install.Outlook{Tree: tree, More: more})
	}
}
