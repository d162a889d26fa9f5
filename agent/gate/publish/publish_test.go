package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

const arn = "arn:aws:ecs:ap-northeast-1:123456789012:container-instance/default/abc"

// aws is a pretend ECS and AWS Batch; calls are kept as "attribute=open" and "ENABLED".
type aws struct {
	mu         sync.Mutex
	ecs, batch []string
	ecsErr     error
	batchErr   error
	stuck      bool
}

func (a *aws) PutAttributes(ctx context.Context, in *ecs.PutAttributesInput, opts ...func(*ecs.Options)) (*ecs.PutAttributesOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var o ecs.Options
	for _, f := range opts {
		f(&o)
	}
	x := in.Attributes[0]
	if *in.Cluster != "default" || *x.TargetId != arn || x.TargetType != "container-instance" || o.Region != "ap-northeast-1" {
		return nil, fmt.Errorf("wrong call: %+v in %q", in, o.Region)
	}
	a.ecs = append(a.ecs, *x.Name+"="+*x.Value)
	return &ecs.PutAttributesOutput{}, a.ecsErr
}

func (a *aws) UpdateComputeEnvironment(_ context.Context, in *batch.UpdateComputeEnvironmentInput, _ ...func(*batch.Options)) (*batch.UpdateComputeEnvironmentOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batch = append(a.batch, string(in.State))
	return &batch.UpdateComputeEnvironmentOutput{}, a.batchErr
}

// set changes what is answered from now on.
func (a *aws) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// calls returns what was called so far.
func (a *aws) calls() (ecs, batch []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.ecs), slices.Clone(a.batch)
}

type trial struct {
	aws       *aws
	decisions chan gate.Decision
	who       chan identity.Identity
	path      string
	cancel    context.CancelFunc
	done      chan error

	mu   sync.Mutex
	last gate.Published
	puts int
	log  bytes.Buffer
}

// Write keeps the log.
func (tr *trial) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.log.Write(p)
}

func (tr *trial) put(p gate.Published) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.last = p
	tr.puts++
}

// now returns what was put last and how often.
func (tr *trial) now() (gate.Published, int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.last, tr.puts
}

// instance is this one as it is known.
func instance() identity.Identity {
	return identity.Identity{
		Instance: identity.Instance{Known: true, Region: "ap-northeast-1"},
		ECS:      identity.ECS{Known: true, Cluster: "default", ContainerInstanceARN: arn},
	}
}

func start(t *testing.T, o Options) *trial {
	t.Helper()
	tr := &trial{
		aws: &aws{}, decisions: make(chan gate.Decision), who: make(chan identity.Identity), done: make(chan error, 1),
		path: filepath.Join(t.TempDir(), "run", "gate.json"),
	}
	o.Log = slog.New(slog.NewTextHandler(tr, nil))
	o.File, o.ECS, o.Batch = tr.path, tr.aws, tr.aws
	o.Identity = tr.who
	ctx, cancel := context.WithCancel(t.Context())
	tr.cancel = cancel
	go func() {
		tr.done <- Run(ctx, o, tr.decisions, tr.put)
	}()
	tr.who <- instance()
	synctest.Wait()
	return tr
}

func (tr *trial) decide(open bool) {
	tr.decisions <- gate.Decision{At: time.Now(), Since: time.Now(), Open: open, Reason: "because", Known: true, ValidUntil: time.Now().Add(5 * time.Minute)}
	synctest.Wait()
}

func (tr *trial) end(t *testing.T) {
	t.Helper()
	tr.cancel()
	if err := <-tr.done; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func (tr *trial) file(t *testing.T) gate.Decision {
	t.Helper()
	text, err := os.ReadFile(tr.path)
	if err != nil {
		t.Fatal(err)
	}
	var d gate.Decision
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func equal(t *testing.T, what string, got []string, want string) {
	t.Helper()
	if g := strings.Join(got, " "); g != want {
		t.Errorf("%s: %q, want %q", what, g, want)
	}
}

func TestTellsChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{ComputeEnvironment: "nightly"})
		if p, n := tr.now(); len(p.Outlets) != 3 || p.Outlets[0].Known || n != 1 {
			t.Errorf("at the start: %+v", p)
		}
		for _, open := range []bool{false, true, true, true, false, true} {
			tr.decide(open)
			wait(30 * time.Second)
		}
		toECS, toBatch := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=closed nagaya.batch=open nagaya.batch=closed nagaya.batch=open")
		equal(t, "Batch", toBatch, "DISABLED ENABLED DISABLED ENABLED")
		if d := tr.file(t); !d.Open || d.Reason != "because" || d.ValidUntil.Sub(d.At) != 5*time.Minute {
			t.Errorf("file: %+v", d)
		}
		if info, err := os.Stat(tr.path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		p, _ := tr.now()
		for _, o := range p.Outlets {
			if !o.Known || !o.Open {
				t.Errorf("%+v", o)
			}
		}
		// The attribute is set again hourly, the compute environment is not.
		wait(2 * time.Hour)
		if toECS, toBatch = tr.aws.calls(); len(toECS) != 6 || len(toBatch) != 4 {
			t.Errorf("after two hours: %v %v", toECS, toBatch)
		}
		tr.end(t)
		toECS, toBatch = tr.aws.calls()
		equal(t, "ECS's last", toECS[6:], "nagaya.batch=closed")
		equal(t, "Batch's last", toBatch[4:], "DISABLED")
		if d := tr.file(t); d.Open || d.Reason != "nagaya is not running" || d.ValidUntil.After(time.Now()) {
			t.Errorf("file at the end: %+v", d)
		}
		if left, _ := filepath.Glob(filepath.Dir(tr.path) + "/.gate-*"); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestEndWithoutDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{})
		tr.end(t)
		toECS, toBatch := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=closed")
		if p, _ := tr.now(); tr.file(t).Open || len(toBatch) != 0 || len(p.Outlets) != 2 {
			t.Errorf("file %+v, Batch %v without an environment", tr.file(t), toBatch)
		}
	})
}

func TestEndIsSparedWhatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{ComputeEnvironment: "nightly"})
		tr.decide(false)
		tr.end(t)
		toECS, toBatch := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=closed")
		equal(t, "Batch", toBatch, "DISABLED")
	})
}

// Where that is wanted, an agent that is stopped for a moment does not disable what is enabled.
func TestEndMayLeaveWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{ComputeEnvironment: "nightly", Unchanged: true})
		tr.decide(true)
		tr.end(t)
		toECS, toBatch := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=open")
		equal(t, "Batch", toBatch, "ENABLED")
		if f := tr.file(t); f.Open || f.Reason != "nagaya is not running" {
			t.Errorf("file %+v", f)
		}
	})
}

func TestOutletsFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{ComputeEnvironment: "nightly"})
		tr.aws.set(func() {
			tr.aws.ecsErr = fmt.Errorf("put: %w", &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not \x1b authorized"})
			tr.aws.batchErr = errors.New("connection refused")
		})
		tr.decide(true)
		wait(time.Hour)
		if !tr.file(t).Open {
			t.Error("the file waits for AWS")
		}
		var codes []string
		p, _ := tr.now()
		for _, p := range p.Problems {
			codes = append(codes, p.Code)
			if strings.Contains(p.Text, "\x1b") {
				t.Errorf("control characters pass: %q", p.Text)
			}
		}
		equal(t, "problems", codes, "batch-environment-failed ecs-attribute-denied")
		if hint := p.Problems[1].Hint; !strings.Contains(hint, "ecs:PutAttributes") {
			t.Errorf("hint %q names no action", hint)
		}
		toECS, _ := tr.aws.calls()
		if n := len(toECS); n < 40 || n > 130 {
			t.Errorf("%d tries in an hour, want a backoff of up to a minute", n)
		}
		tr.mu.Lock()
		log := tr.log.String()
		tr.mu.Unlock()
		if n := strings.Count(log, "gate not published"); n != 2 {
			t.Errorf("%d warnings for two failing outlets:\n%s", n, log)
		}
		// The gate has closed meanwhile: only the newest is told.
		tr.decide(false)
		tr.aws.set(func() {
			tr.aws.ecsErr, tr.aws.batchErr = nil, nil
			tr.aws.ecs, tr.aws.batch = nil, nil
		})
		wait(2 * time.Minute)
		toECS, toBatch := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=closed")
		equal(t, "Batch", toBatch, "DISABLED")
		if p, _ := tr.now(); len(p.Problems) != 0 {
			t.Errorf("mended, yet %+v", p.Problems)
		}
		tr.end(t)
	})
}

func TestWaitsForTheContainerInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{})
		tr.who <- identity.Identity{}
		tr.decide(true)
		if p, _ := tr.now(); len(p.Problems) != 1 || p.Problems[0].Code != "ecs-instance-unknown" {
			t.Errorf("%+v", p.Problems)
		}
		wait(10 * time.Minute) // by now it is tried once a minute
		tr.who <- instance()
		synctest.Wait()
		toECS, _ := tr.aws.calls()
		equal(t, "ECS", toECS, "nagaya.batch=open")
		if p, _ := tr.now(); len(p.Problems) != 0 || p.Outlets[1].Target != arn {
			t.Errorf("%+v", p)
		}
		tr.end(t)
	})
}

func TestEndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := start(t, Options{})
		tr.decide(true)
		tr.aws.set(func() { tr.aws.stuck = true })
		began := time.Now()
		tr.end(t)
		if took := time.Since(began); took != goodbye {
			t.Errorf("the end took %v", took)
		}
		if tr.file(t).Open {
			t.Error("the file waits for AWS")
		}
	})
}

func TestFileFails(t *testing.T) {
	dir := t.TempDir()
	blocker := filepath.Join(dir, "not-a-directory")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := file(filepath.Join(blocker, "gate.json"))
	err := f.publish(t.Context(), message{})
	if err == nil {
		t.Fatal("written below a file")
	}
	if p := f.problem(err); p.Code != "gate-file-failed" || p.Hint == "" || !strings.Contains(p.Text, "not-a-directory") {
		t.Errorf("%+v", p)
	}
	// A directory in the file's place: the old state stays and nothing is left lying about.
	path := filepath.Join(dir, "gate.json")
	f = file(path)
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.publish(t.Context(), message{}); err == nil {
		t.Error("replaced a directory")
	}
	if left, _ := filepath.Glob(dir + "/.gate-*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
