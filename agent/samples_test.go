package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// webTask is a container of ECS on Docker's bridge, as the samples have them.
func webTask(family, revision, name string, host byte, labels map[string]string) tasks.Container {
	id := sha256.Sum256([]byte(name))
	c := tasks.Container{
		ID: hex.EncodeToString(id[:]), Name: name, Labels: labels, State: tasks.Running, Network: tasks.Bridge,
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, host})}, Ports: []tasks.Port{{Container: 8080, Protocol: "tcp"}},
		StartedAt: time.Now().Add(-time.Minute),
	}
	c.Task = tasks.TaskRef{Family: family, Revision: revision, ContainerName: "web", ARN: "arn:aws:ecs:ap-northeast-1:123456789012:task/default/0f1e2d3c4b5a"}
	return c
}

// built are the routes of these containers; their ports are as reach says.
func built(prev route.Table, reach route.Reach, containers ...tasks.Container) route.Table {
	in := route.Input{
		Snapshot: tasks.Snapshot{Complete: true, Containers: containers}, Certs: certs.Inventory{Complete: true},
		Requests: labels.Requests(containers, labels.Configured(config.Default()), nginxproxy.Reader(false)),
		Prev:     prev, Now: time.Now(), Reach: reach, Options: route.Options{Stream: true},
	}
	if reach == nil {
		in.Reach = route.Reach{}
		for _, p := range route.Build(in).Probes {
			in.Reach[p] = route.Reached{State: route.Reachable}
		}
	}
	return route.Build(in)
}

func problemOf(t *testing.T, all []problem.Problem, code string) problem.Problem {
	t.Helper()
	i := slices.IndexFunc(all, func(p problem.Problem) bool { return p.Code == code })
	if i < 0 {
		t.Fatalf("no problem %s in %+v", code, all)
	}
	return all[i]
}

// What routes have wrong with them is what the samples show.
func TestDocsShowProblemsOfRoutes(t *testing.T) {
	host := map[string]string{"nagaya.host": "shop.example.com"}
	shop := webTask("shop", "7", "ecs-shop-7-web-8ea2", 4, host)
	before := built(route.Table{}, nil, shop)
	misspelt := webTask("shop", "7", "ecs-shop-7-web-8ea2", 4, map[string]string{"nagaya.hosts": "shop.example.com"})
	p := problemOf(t, built(before, nil, misspelt).Problems, "label-unknown")
	doctest.Logged(t, "label-unknown", doctest.Problem(t, p, misspelt))
	second := webTask("shop2", "1", "ecs-shop2-1-web-77d0", 5, host)
	p = problemOf(t, built(before, nil, shop, second).Problems, "host-taken")
	doctest.Logged(t, "host-taken", doctest.Problem(t, p, shop, second))
	silent := webTask("shop", "8", "ecs-shop-8-web-1c7d", 7, host)
	reach := route.Reach{}
	for _, p := range built(route.Table{}, route.Reach{}, silent).Probes {
		reach[p] = route.Reached{State: route.Unreachable, Detail: "connection refused"}
	}
	p = problemOf(t, built(route.Table{}, reach, silent).Problems, "container-not-listening")
	doctest.Logged(t, "container-not-listening", doctest.Problem(t, p, silent))
}

// What the journal tells of a container that comes, and of the last one that goes.
func TestDocsShowContainersComeAndGo(t *testing.T) {
	host := map[string]string{"nagaya.host": "shop.example.com"}
	old, other := webTask("shop", "7", "ecs-shop-7-web-8ea2", 4, host), webTask("shop", "8", "ecs-shop-8-web-1c7d", 7, host)
	j := doctest.NewJournal(t)
	var c report.Chronicle
	table := route.Table{}
	for _, containers := range [][]tasks.Container{{old}, {old, other}, {old}, {}} {
		table = built(table, nil, containers...)
		entries, _ := c.Changes(report.Status{At: time.Now(), Routes: table}, []tasks.Container{old, other})
		for _, e := range entries {
			j.Log.Log(t.Context(), slog.LevelInfo, e.Message, e.Fields...)
		}
	}
	doctest.Logged(t, "route-vacant", j.Await(event.RouteVacant))
	doctest.Logged(t, "server-added", j.Await(event.ServerAdded))
}

// A wrong change of the configuration file.
func TestDocsShowAConfigurationThatIsRefused(t *testing.T) {
	c := withFile(t, "log-level: warn\n")
	j := doctest.NewJournal(t)
	c.o.Log = j.Log
	c.write("nginx:\n  http-port: eighty\n")
	if err := c.reconfigure(); err == nil {
		t.Fatal("a wrong configuration is taken")
	}
	doctest.Logged(t, "config-refused", j.Await(event.ConfigRefused), c.o.Config.File, "/etc/nagaya/nagaya.yaml")
}
