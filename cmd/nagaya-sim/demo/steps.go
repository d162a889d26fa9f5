package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

func (p *player) cloudStarts(ctx context.Context) error {
	if err := p.s.StartCloud(ctx); err != nil {
		return err
	}
	log, err := os.ReadFile(p.s.Path("log", "cloud.log"))
	if err != nil {
		return err
	}
	p.show("nagaya-sim cloud --env-file …/cloud.env", string(log))
	p.say("The agent's environment, read by the unmodified AWS SDK:")
	for _, kv := range p.s.Env {
		p.say("  %s", kv)
	}
	p.published = time.Now()
	return p.s.SetBalance(ctx, 40)
}

func (p *player) agentStarts(ctx context.Context) error {
	if err := p.showAddresses(ctx, "before"); err != nil {
		return err
	}
	p.say("$ nagaya agent --config …/nagaya.yaml &")
	begun := time.Now()
	if err := p.s.StartAgent(); err != nil {
		return err
	}
	err := stage.Until(ctx, 20*time.Second, "the address is held", func() error {
		table, err := p.s.Addresses(ctx)
		if err != nil {
			return err
		}
		for _, holder := range table {
			if holder == p.s.InstanceID {
				return nil
			}
		}
		return errors.New("it is free")
	})
	if err != nil {
		return err
	}
	p.say("held %d ms after the process was started", time.Since(begun).Milliseconds())
	if err := p.showAddresses(ctx, "after"); err != nil {
		return err
	}
	err = stage.Until(ctx, 10*time.Second, "the agent says so itself", func() error {
		out, code, err := p.s.CLI(ctx, "address")
		if err == nil && (code != 0 || !strings.Contains(out, "this instance holds it")) {
			err = errors.New(out)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = p.nagaya(ctx, "address")
	return err
}

func (p *player) showAddresses(ctx context.Context, when string) error {
	table, err := p.s.Addresses(ctx)
	if err != nil {
		return err
	}
	p.say("Elastic IPs in EC2 %s:", when)
	for ip, holder := range table {
		if holder == "" {
			holder = "nobody"
		}
		p.say("  %-15s held by %s", ip, holder)
	}
	return nil
}

// service is a container as the ECS agent starts one.
func service(family, revision, host string) stage.Container {
	return stage.Container{
		Name: "ecs-" + family + "-" + revision, Args: []string{"-name", family + " v" + revision},
		Ports: map[string]string{"8080/tcp": "0"},
		Labels: map[string]string{
			"nagaya.host": host,
			"com.amazonaws.ecs.task-definition-family":  family,
			"com.amazonaws.ecs.task-definition-version": revision,
			"com.amazonaws.ecs.container-name":          "web",
			"com.amazonaws.ecs.cluster":                 "default",
			"com.amazonaws.ecs.task-arn":                "arn:aws:ecs:ap-northeast-1:123456789012:task/default/" + family + revision,
		},
	}
}

func (p *player) servicesStart(ctx context.Context) error {
	secure := service("vault", "1", vault)
	secure.Args = []string{"-name", "vault v1", "-listen", ":443", "-tls"}
	secure.Ports = map[string]string{"443/tcp": "10443"}
	for _, c := range []stage.Container{service("shop", "1", shop), service("wiki", "1", wiki), secure} {
		if _, err := p.s.Run(ctx, c); err != nil {
			return err
		}
		p.say("started %-12s labels: nagaya.host=%s   ports: %v", c.Name, c.Labels["nagaya.host"], c.Ports)
	}
	for _, host := range []string{shop, wiki, vault} {
		if err := p.served(ctx, host, ""); err != nil {
			return err
		}
		if _, err := p.curl(ctx, "https://"+host+"/"); err != nil {
			return err
		}
	}
	if _, err := p.curl(ctx, "http://"+shop+"/cart", "-o", "/dev/null", "-w", `%{http_code} %{redirect_url}\n`); err != nil {
		return err
	}
	_, err := p.nagaya(ctx, "routes")
	return err
}

// served waits until the host answers with 200, by the given household if one is named.
func (p *player) served(ctx context.Context, host, household string) error {
	return stage.Until(ctx, 15*time.Second, host+" is served", func() error {
		code, body, err := p.s.Get(ctx, host)
		if err == nil && (code != 200 || !strings.HasPrefix(body, household)) {
			err = fmt.Errorf("it answers %d %q", code, body)
		}
		if err != nil {
			return err
		}
		// The new workers answer; until the old ones have stopped accepting, the
		// next connection may still meet one that does not know the host.
		out, _, err := p.s.CLI(ctx, "status", "--json")
		if err == nil && !strings.Contains(out, `"settled": true`) {
			err = errors.New("nginx has not settled")
		}
		return err
	})
}

func (p *player) serviceIsReplaced(ctx context.Context) error {
	const perSecond = 100
	load, err := p.s.StartLoad(ctx, shop, perSecond)
	if err != nil {
		return err
	}
	defer load.Stop()
	p.say("%d requests a second to %s, half of them on kept connections", perSecond, shop)
	if _, err := p.s.Run(ctx, service("shop", "2", shop)); err != nil {
		return err
	}
	p.say("started ecs-shop-2; waiting until it answers too")
	err = stage.Until(ctx, 15*time.Second, "both versions answer", func() error {
		if load.Seen("shop v2") == 0 {
			return errors.New("version 2 has not answered yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.s.Stop(ctx, "ecs-shop-1", 10); err != nil {
		return err
	}
	p.say("stopped ecs-shop-1")
	before := load.Seen("shop v2")
	err = stage.Until(ctx, 15*time.Second, "the new version has answered a hundred more", func() error {
		if n := load.Seen("shop v2") - before; n < 100 {
			return fmt.Errorf("only %d", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r := load.Stop()
	p.say("%d requests, %d failed; answered by %v", r.Requests, r.Failed, r.By)
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed, first: %s", r.Failed, r.Requests, r.First)
	}
	if _, err := p.nagaya(ctx, "routes", "--traffic"); err != nil {
		return err
	}
	p.say("FAILED counts requests that a container did not answer; nginx then asked the other one")
	return p.s.Remove(ctx, "ecs-shop-1")
}

func (p *player) strangersCome(ctx context.Context) error {
	injection := service("mallory", "1", "m.test; } server { listen 9999; return 200 owned; ")
	thief := service("thief", "1", wiki)
	broken := service("broken", "1", "broken.test")
	broken.Args = []string{"-name", "broken", "-listen", ""}
	for _, c := range []stage.Container{injection, thief, broken} {
		if _, err := p.s.Run(ctx, c); err != nil {
			return err
		}
		p.say("started %-14s label: nagaya.host=%q", c.Name, c.Labels["nagaya.host"])
	}
	p.say("ecs-broken-1 listens nowhere; ten seconds are granted to every start")
	err := stage.Until(ctx, 25*time.Second, "all three are named", func() error {
		out, _, err := p.s.CLI(ctx, "status")
		for _, name := range []string{"mallory", "thief", "broken"} {
			if err == nil && !strings.Contains(out, name) {
				err = fmt.Errorf("%s is not in the status:\n%s", name, out)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := p.nagaya(ctx, "status"); err != nil {
		return err
	}
	for host, household := range map[string]string{shop: "shop v2", wiki: "wiki v1", vault: "vault v1"} {
		if err := p.served(ctx, host, household); err != nil {
			return err
		}
		p.say("https://%s/ is still answered by %s", host, household)
	}
	for _, name := range []string{"ecs-mallory-1", "ecs-thief-1", "ecs-broken-1"} {
		if err := p.s.Remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) batchRuns(ctx context.Context) error {
	if _, err := p.nagaya(ctx, "credits"); err != nil {
		return err
	}
	args := []string{"gate", "run", "--name", "nightly-report", "--need", "60", "--", filepath.Join(p.s.Bin, "household"), "-burn", "3s"}
	p.say("$ nagaya gate run --name nightly-report --need 60 -- household -burn 3s &")
	batch := make(chan string, 1)
	batchErr := make(chan error, 1)
	go func() {
		out, code, err := p.s.CLI(ctx, args...)
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d: %s", code, out)
		}
		batch <- out
		batchErr <- err
	}()
	if err := p.jobIs(ctx, "waiting"); err != nil {
		return err
	}
	if _, err := p.nagaya(ctx, "gate"); err != nil {
		return err
	}
	if err := p.nextMinute(ctx); err != nil {
		return err
	}
	p.say("(the simulated cloud now grants the credits of a quiet day: 288)")
	if err := p.s.SetBalance(ctx, 288); err != nil {
		return err
	}
	if err := p.jobIs(ctx, "running"); err != nil {
		return err
	}
	if _, err := p.nagaya(ctx, "gate"); err != nil {
		return err
	}
	select {
	case out := <-batch:
		p.show("(what 'nagaya gate run' printed)", out)
		if err := <-batchErr; err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := p.nagaya(ctx, "gate"); err != nil {
		return err
	}
	_, err := p.nagaya(ctx, "history")
	return err
}

// nextMinute waits until CloudWatch can tell a new point from the one of step 1:
// points carry the minute.
func (p *player) nextMinute(ctx context.Context) error {
	wait := time.Until(p.published.Truncate(time.Minute).Add(time.Minute))
	if wait <= 0 {
		return nil
	}
	p.say("(CloudWatch's next point can come in %d s)", int(wait.Seconds())+1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait + time.Second):
		return nil
	}
}

// jobIs waits until the job stands in the given phase.
func (p *player) jobIs(ctx context.Context, phase string) error {
	return stage.Until(ctx, 30*time.Second, "the job is "+phase, func() error {
		out, _, err := p.s.CLI(ctx, "gate")
		if err == nil && !strings.Contains(out, phase) {
			err = errors.New(out)
		}
		return err
	})
}
