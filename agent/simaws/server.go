package simaws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// ServeOptions say where the endpoints are. The zero value is free ports on 127.0.0.1.
type ServeOptions struct {
	// Host is the address to listen on; default 127.0.0.1.
	Host string
	// BasePort is the first of a row of fixed ports: EC2, CloudWatch, ECS, Batch, S3,
	// Route 53 and control, then two for every instance in the order in which they are
	// added (IMDS and ECS agent). 0 takes free ports.
	BasePort int
	// Listen is how to listen; default net.Listen. Another one may listen in another
	// network namespace.
	Listen func(network, addr string) (net.Listener, error)
	// Log is told of every request at level debug; nil for silence.
	Log *slog.Logger
}

// Endpoints are the base URLs of a served cloud.
type Endpoints struct {
	EC2        string `json:"ec2"`
	CloudWatch string `json:"cloudwatch"`
	ECS        string `json:"ecs"`
	Batch      string `json:"batch"`
	S3         string `json:"s3"`
	Route53    string `json:"route53"`
	Control    string `json:"control"`
	// IMDS and ECSAgent are by instance id.
	IMDS     map[string]string `json:"imds"`
	ECSAgent map[string]string `json:"ecs_agent"`
}

// Cloud is a World whose endpoints are open.
type Cloud struct {
	*World

	options  ServeOptions
	log      *slog.Logger
	stop     context.CancelFunc
	stopping context.Context

	openMu    sync.Mutex
	servers   []*http.Server
	nextPort  int
	endpoints Endpoints
	running   sync.WaitGroup
}

// Serve opens the endpoints of a world: one listener a service, and two for every
// instance that is there or is added later. The caller must Close it.
func Serve(w *World, o ServeOptions) (*Cloud, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	c := &Cloud{World: w, options: o, log: o.Log, nextPort: o.BasePort}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.stopping, c.stop = context.WithCancel(context.Background())
	c.endpoints = Endpoints{IMDS: map[string]string{}, ECSAgent: map[string]string{}}
	if err := c.openAll(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cloud) openAll() error {
	for _, s := range []struct {
		serve http.Handler
		url   *string
	}{
		{c.service(ec2Service{}), &c.endpoints.EC2},
		{c.service(cloudWatchService{}), &c.endpoints.CloudWatch},
		{c.service(ecsService{}), &c.endpoints.ECS},
		{c.service(batchService{}), &c.endpoints.Batch},
		{c.service(s3Service{}), &c.endpoints.S3},
		{c.service(route53Service{}), &c.endpoints.Route53},
		{c.control(), &c.endpoints.Control},
	} {
		url, err := c.open(s.serve)
		if err != nil {
			return err
		}
		*s.url = url
	}
	c.mu.Lock()
	c.opened = c.openInstance
	ids := sortedKeys(c.instances)
	c.mu.Unlock()
	for _, id := range ids {
		if err := c.openInstance(id); err != nil {
			return err
		}
	}
	return nil
}

// openInstance opens the two endpoints of one instance.
func (c *Cloud) openInstance(id string) error {
	imds, err := c.open(c.imds(id))
	if err != nil {
		return err
	}
	agent, err := c.open(c.ecsAgent(id))
	if err != nil {
		return err
	}
	c.openMu.Lock()
	defer c.openMu.Unlock()
	c.endpoints.IMDS[id], c.endpoints.ECSAgent[id] = imds, agent
	return nil
}

// open listens on the next port and serves until Close.
func (c *Cloud) open(h http.Handler) (string, error) {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	if c.stopping.Err() != nil {
		return "", errors.New("the simulated cloud is closed")
	}
	l, err := c.options.Listen("tcp", net.JoinHostPort(c.options.Host, strconv.Itoa(c.nextPort)))
	if err != nil {
		return "", fmt.Errorf("opening an endpoint of the simulated cloud: %w", err)
	}
	if c.nextPort != 0 {
		c.nextPort++
	}
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	c.servers = append(c.servers, s)
	c.running.Go(func() { _ = s.Serve(l) })
	return "http://" + l.Addr().String(), nil
}

// Endpoints returns the base URLs.
func (c *Cloud) Endpoints() Endpoints {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	e := c.endpoints
	e.IMDS, e.ECSAgent = map[string]string{}, map[string]string{}
	for id, url := range c.endpoints.IMDS {
		e.IMDS[id] = url
	}
	for id, url := range c.endpoints.ECSAgent {
		e.ECSAgent[id] = url
	}
	return e
}

// Env returns the environment that makes an AWS SDK believe that it runs on the
// instance. AWS_REGION is not among it: the Region comes from IMDS.
func (c *Cloud) Env(instanceID string) map[string]string {
	e := c.Endpoints()
	return map[string]string{
		"AWS_ENDPOINT_URL_EC2":              e.EC2,
		"AWS_ENDPOINT_URL_CLOUDWATCH":       e.CloudWatch,
		"AWS_ENDPOINT_URL_ECS":              e.ECS,
		"AWS_ENDPOINT_URL_BATCH":            e.Batch,
		"AWS_ENDPOINT_URL_S3":               e.S3,
		"AWS_ENDPOINT_URL_ROUTE_53":         e.Route53,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": e.IMDS[instanceID],
	}
}

// Close shuts all endpoints, cutting what is under way, and waits for them.
func (c *Cloud) Close() {
	c.openMu.Lock()
	c.stop()
	for _, s := range c.servers {
		_ = s.Close()
	}
	c.openMu.Unlock()
	c.running.Wait()
	c.mu.Lock()
	c.opened = nil
	c.mu.Unlock()
}

// apiError is an error answer of a service.
type apiError struct {
	code    string
	message string
	status  int
	// header goes with the answer, where the protocol says more in headers.
	header map[string]string
}

// Error names the code and the message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

func failed(code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...), status: usualStatus(code)}
}

// reply is a whole HTTP answer.
type reply struct {
	status      int
	contentType string
	header      map[string]string
	body        []byte
}

// request is what a service is given once the request is let in.
type request struct {
	action   string
	body     []byte
	http     *http.Request
	instance string
	id       string
}

// apiService is one AWS service with its wire protocol.
type apiService interface {
	name() string
	// scope is the service's name in a credential scope.
	scope() string
	// action is the API action that is asked for; empty when it cannot be read.
	action(r *http.Request, body []byte) string
	// do performs the action on the world, whose lock is held.
	do(w *World, r *request) (reply, *apiError)
	// refuse words the error for a request that is not let in.
	refuse(why refusal, text string) *apiError
	// deny is the code for an action that the role may not do.
	deny() string
	// fail is the answer that carries an error.
	fail(e *apiError, requestID string) reply
}

// maxBody bounds a request.
const maxBody = 1 << 20

// service is the path of every API request: who is it, is it meant to go wrong,
// do it, answer it.
func (c *Cloud) service(s apiService) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, hr *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(rw, hr.Body, maxBody))
		if err != nil {
			http.Error(rw, "request body too large or cut off", http.StatusRequestEntityTooLarge)
			return
		}
		rw.Header().Set("Date", c.wall().UTC().Format(http.TimeFormat)) // by which an SDK corrects its clock
		r := &request{action: s.action(hr, body), body: body, http: hr, id: c.requestID()}
		instance, why, text := c.authenticate(hr, s.scope())
		r.instance = instance
		call := Call{Service: s.name(), Action: r.action, Instance: instance}
		f, hit := c.takeFault(s.name(), r.action, instance)
		if hit && !c.begin(hr, f) {
			call.Dropped = true
			c.finish(call)
			panic(http.ErrAbortHandler)
		}
		var out reply
		fail, asked := f.failure(), f.failure()
		if f.Applied {
			fail = nil
		}
		if fail == nil && why != letIn {
			fail = s.refuse(why, text)
		}
		if fail == nil {
			c.mu.Lock()
			c.settleLedgers()
			if fail = c.admit(s, r); fail == nil {
				out, fail = s.do(c.World, r)
			}
			c.mu.Unlock()
			if fail == nil && f.Applied {
				fail = asked
			}
		}
		if fail != nil {
			call.Error = fail.code
			out = s.fail(fail, r.id)
		}
		call.Dropped = f.Drop == "after"
		c.finish(call)
		if call.Dropped {
			panic(http.ErrAbortHandler)
		}
		send(rw, out, r.id)
	})
}

// begin waits as long as the fault says; it reports whether to go on.
func (c *Cloud) begin(hr *http.Request, f Fault) bool {
	if f.Delay > 0 {
		t := time.NewTimer(time.Duration(f.Delay))
		defer t.Stop()
		gone := hr.Context().Done()
		if f.Late {
			gone = nil
		}
		select {
		case <-t.C:
		case <-gone:
			return false
		case <-c.stopping.Done():
			return false
		}
	}
	return f.Drop != "before"
}

func (c *Cloud) finish(call Call) {
	c.note(call)
	c.log.Debug("request", "service", call.Service, "action", call.Action, "instance", call.Instance, "code", call.Error, "dropped", call.Dropped)
}

func (w *World) requestID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%s-%s-%s-%s-%s", w.hex(8), w.hex(4), w.hex(4), w.hex(4), w.hex(12))
}

func send(rw http.ResponseWriter, out reply, requestID string) {
	h := rw.Header()
	for k, v := range out.header {
		h.Set(k, v)
	}
	h.Set("Content-Type", out.contentType)
	if requestID != "" {
		h.Set("X-Amzn-Requestid", requestID)
	}
	h.Set("Content-Length", strconv.Itoa(len(out.body)))
	rw.WriteHeader(out.status)
	_, _ = rw.Write(out.body)
}
