package simaws

import (
	"fmt"
	"slices"
	"strings"
)

// Fault makes matching requests go wrong. The first fault that matches a request
// is the one that counts.
type Fault struct {
	// ID is given by AddFault.
	ID int `json:"id"`
	// Service is ec2, cloudwatch, ecs, batch, s3, route53, imds or ecs-agent.
	Service string `json:"service"`
	// Action is an API action, e.g. AssociateAddress; empty for all. For imds and
	// ecs-agent it is "PUT" or "GET", a space, and the beginning of a path without
	// the version, e.g. "GET /meta-data/public-ipv4" or "PUT /api/token".
	Action string `json:"action,omitempty"`
	// Instance limits the fault to requests of one instance.
	Instance string `json:"instance,omitempty"`
	// Code is the error code to answer, e.g. RequestLimitExceeded; empty leaves the
	// answer as it is, unless Status is set.
	Code string `json:"code,omitempty"`
	// Message goes with the code; default a sentence that says it was asked for.
	Message string `json:"message,omitempty"`
	// Status is the HTTP status; default what the code usually comes with.
	Status int `json:"status,omitempty"`
	// Times is how many requests are hit; 0 is all until the fault is cleared.
	Times int `json:"times,omitempty"`
	// Delay holds the request before anything else happens, in real time.
	Delay Duration `json:"delay,omitempty"`
	// Late lets the action go on after the delay although the caller has gone away meanwhile.
	Late bool `json:"late,omitempty"`
	// Drop cuts the connection instead of answering: "before" anything happened,
	// or "after" the action took effect.
	Drop string `json:"drop,omitempty"`
	// Applied lets the action take effect before its error is answered.
	Applied bool `json:"applied,omitempty"`
}

var services = []string{"ec2", "cloudwatch", "ecs", "batch", "s3", "route53", "imds", "ecs-agent"}

// AddFault adds a fault and returns its id.
func (w *World) AddFault(f Fault) (int, error) {
	switch {
	case !slices.Contains(services, f.Service):
		return 0, fmt.Errorf("fault: service %q is not one of %s", f.Service, strings.Join(services, ", "))
	case f.Drop != "" && f.Drop != "before" && f.Drop != "after":
		return 0, fmt.Errorf("fault: drop %q is neither before nor after", f.Drop)
	case f.Times < 0:
		return 0, fmt.Errorf("fault: times %d is negative", f.Times)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return 0, fmt.Errorf("fault: status %d is not within 400 and 599", f.Status)
	case f.Applied && f.Code == "" && f.Status == 0:
		return 0, fmt.Errorf("fault: applied without a code or a status")
	case f.Code == "" && f.Status == 0 && f.Delay <= 0 && f.Drop == "":
		return 0, fmt.Errorf("fault: nothing to do; give a code, a status, a delay or a drop")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault++
	f.ID = w.fault
	w.faults = append(w.faults, &f)
	return f.ID, nil
}

// Faults returns the faults that are still there; Times is what is left of each.
func (w *World) Faults() []Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]Fault, 0, len(w.faults))
	for _, f := range w.faults {
		all = append(all, *f)
	}
	return all
}

// ClearFault takes one fault away.
func (w *World) ClearFault(id int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.faults)
	w.faults = slices.DeleteFunc(w.faults, func(f *Fault) bool { return f.ID == id })
	if len(w.faults) == n {
		return &NotFoundError{"fault", fmt.Sprint(id)}
	}
	return nil
}

// ClearFaults takes all faults away.
func (w *World) ClearFaults() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = nil
}

// takeFault returns the fault for this request, if any, and counts it down.
func (w *World) takeFault(service, action, instance string) (Fault, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, f := range w.faults {
		if !f.matches(service, action, instance) {
			continue
		}
		taken := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				w.faults = slices.Delete(w.faults, n, n+1)
			}
		}
		return taken, true
	}
	return Fault{}, false
}

func (f *Fault) matches(service, action, instance string) bool {
	if f.Service != service || f.Instance != "" && f.Instance != instance {
		return false
	}
	if service == "imds" || service == "ecs-agent" {
		return strings.HasPrefix(action, f.Action)
	}
	return f.Action == "" || f.Action == action
}

// failure is the error of the fault, or nil when it changes no answer.
func (f *Fault) failure() *apiError {
	if f.Code == "" && f.Status == 0 {
		return nil
	}
	e := &apiError{code: f.Code, message: f.Message, status: f.Status}
	if e.code == "" {
		e.code = "InternalError"
	}
	if e.message == "" {
		e.message = "The simulated cloud was asked to fail this request."
	}
	if e.status == 0 {
		e.status = usualStatus(e.code)
	}
	return e
}

// usualStatus is the HTTP status that a code comes with.
func usualStatus(code string) int {
	switch code {
	case "RequestLimitExceeded", "Unavailable", "ServiceUnavailable", "SlowDown":
		return 503
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch":
		return 403
	case "NoSuchBucket", "NoSuchKey", "NoSuchHostedZone", "NoSuchChange":
		return 404
	case "ConditionalRequestConflict", "OperationAborted":
		return 409
	case "PermanentRedirect":
		return 301
	case "AuthFailure":
		return 401
	case "DryRunOperation", "PreconditionFailed":
		return 412
	case "InternalError", "InternalFailure", "InternalServiceFault", "InternalServiceError", "ServerException":
		return 500
	case "NotImplemented":
		return 501
	default:
		return 400
	}
}
