package simaws

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// control is the JSON endpoint with which another process drives a scenario.
// Every call answers 200 with JSON, or 400 or 404 with {"error": "..."}; a body
// with a field that is not known is refused. The methods of World of the same
// names say what each call does.
func (c *Cloud) control() http.Handler {
	m := http.NewServeMux()
	get := func(path string, answer func() any) {
		m.HandleFunc("GET "+path, func(rw http.ResponseWriter, _ *http.Request) { answerJSON(rw, answer(), nil) })
	}
	get("/state", func() any { return c.State() })
	get("/endpoints", func() any { return c.Endpoints() })
	get("/calls", func() any { return c.Calls() })
	get("/faults", func() any { return c.Faults() })
	do(m, "DELETE /calls", func(*http.Request, struct{}) (any, error) { c.ResetCalls(); return nil, nil })
	do(m, "POST /faults", func(_ *http.Request, f Fault) (any, error) { return idOf(c.AddFault(f)) })
	do(m, "DELETE /faults", func(*http.Request, struct{}) (any, error) { c.ClearFaults(); return nil, nil })
	do(m, "DELETE /faults/{id}", func(r *http.Request, _ struct{}) (any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			return nil, fmt.Errorf("fault id: %w", err)
		}
		return nil, c.ClearFault(id)
	})
	do(m, "PUT /conditions", func(_ *http.Request, v Conditions) (any, error) { c.SetConditions(v); return nil, nil })
	c.controlInstances(m)
	c.controlAddresses(m)
	c.controlStores(m)
	do(m, "POST /clusters", func(_ *http.Request, v struct {
		Name string `json:"name"`
	},
	) (any, error) {
		return nil, c.AddCluster(v.Name)
	})
	do(m, "POST /container-instances", func(_ *http.Request, v ContainerInstanceSpec) (any, error) {
		return idOf(c.AddContainerInstance(v))
	})
	do(m, "POST /compute-environments", func(_ *http.Request, v ComputeEnvironmentSpec) (any, error) {
		return idOf(c.AddComputeEnvironment(v))
	})
	return m
}

func (c *Cloud) controlInstances(m *http.ServeMux) {
	do(m, "POST /instances", func(_ *http.Request, v InstanceSpec) (any, error) { return idOf(c.AddInstance(v)) })
	do(m, "PUT /instances/{id}/state", func(r *http.Request, v struct {
		State string `json:"state"`
	},
	) (any, error) {
		return nil, c.SetState(r.PathValue("id"), v.State)
	})
	do(m, "PUT /instances/{id}/cpu", func(r *http.Request, v struct {
		Percent float64 `json:"percent"`
	},
	) (any, error) {
		return nil, c.SetCPU(r.PathValue("id"), v.Percent)
	})
	do(m, "PUT /instances/{id}/credits", func(r *http.Request, v struct {
		Balance float64 `json:"balance"`
		Launch  float64 `json:"launch"`
		Surplus float64 `json:"surplus"`
		Publish bool    `json:"publish"`
	},
	) (any, error) {
		return nil, c.SetCredits(r.PathValue("id"), Credits{Balance: v.Balance, Launch: v.Launch, Surplus: v.Surplus}, v.Publish)
	})
	do(m, "POST /instances/{id}/publish", func(r *http.Request, _ struct{}) (any, error) {
		return nil, c.Publish(r.PathValue("id"))
	})
	do(m, "PUT /instances/{id}/credit-mode", func(r *http.Request, v struct {
		Mode CreditMode `json:"mode"`
	},
	) (any, error) {
		return nil, c.SetCreditMode(r.PathValue("id"), v.Mode)
	})
	do(m, "PUT /instances/{id}/tags", func(r *http.Request, v map[string]string) (any, error) {
		return nil, c.SetTags(r.PathValue("id"), v)
	})
	do(m, "PUT /instances/{id}/allow", func(r *http.Request, v []string) (any, error) {
		return nil, c.SetAllow(r.PathValue("id"), v)
	})
	do(m, "PUT /instances/{id}/metadata", func(r *http.Request, v Metadata) (any, error) {
		return nil, c.SetMetadata(r.PathValue("id"), v)
	})
	do(m, "PUT /instances/{id}/notices", func(r *http.Request, v Notices) (any, error) {
		return nil, c.SetNotices(r.PathValue("id"), v)
	})
	do(m, "PUT /instances/{id}/tasks", func(r *http.Request, v json.RawMessage) (any, error) {
		return nil, c.SetTasks(r.PathValue("id"), v)
	})
	do(m, "DELETE /instances/{id}/tokens", func(r *http.Request, _ struct{}) (any, error) {
		return nil, c.RevokeTokens(r.PathValue("id"))
	})
	do(m, "DELETE /instances/{id}/credentials", func(r *http.Request, _ struct{}) (any, error) {
		c.RevokeCredentials(r.PathValue("id"))
		return nil, nil
	})
}

func (c *Cloud) controlAddresses(m *http.ServeMux) {
	do(m, "POST /addresses", func(_ *http.Request, v AddressSpec) (any, error) { return idOf(c.AddAddress(v)) })
	do(m, "DELETE /addresses/{id}", func(r *http.Request, _ struct{}) (any, error) {
		return nil, c.ReleaseAddress(r.PathValue("id"))
	})
	do(m, "PUT /addresses/{id}/tags", func(r *http.Request, v map[string]string) (any, error) {
		return nil, c.SetAddressTags(r.PathValue("id"), v)
	})
	do(m, "PUT /addresses/{id}/association", func(r *http.Request, v struct {
		InstanceID string `json:"instance_id"`
		PrivateIP  string `json:"private_ip"`
	},
	) (any, error) {
		return idOf(c.Associate(r.PathValue("id"), v.InstanceID, v.PrivateIP))
	})
	do(m, "DELETE /addresses/{id}/association", func(r *http.Request, _ struct{}) (any, error) {
		return nil, c.Disassociate(r.PathValue("id"))
	})
}

// controlStores are buckets, their objects as text, and hosted zones.
func (c *Cloud) controlStores(m *http.ServeMux) {
	do(m, "POST /buckets", func(_ *http.Request, v BucketSpec) (any, error) { return nil, c.AddBucket(v) })
	do(m, "GET /buckets/{name}/objects", func(r *http.Request, _ struct{}) (any, error) {
		all := map[string]string{}
		for k, body := range c.Objects(r.PathValue("name")) {
			all[k] = string(body)
		}
		return all, nil
	})
	do(m, "PUT /buckets/{name}/objects/{key...}", func(r *http.Request, v struct {
		Body string `json:"body"`
	},
	) (any, error) {
		return nil, c.SetObject(r.PathValue("name"), r.PathValue("key"), []byte(v.Body))
	})
	do(m, "DELETE /buckets/{name}/objects/{key...}", func(r *http.Request, _ struct{}) (any, error) {
		return nil, c.SetObject(r.PathValue("name"), r.PathValue("key"), nil)
	})
	do(m, "POST /zones", func(_ *http.Request, v ZoneSpec) (any, error) { return nil, c.AddZone(v) })
	do(m, "GET /zones/{id}/records", func(r *http.Request, _ struct{}) (any, error) { return c.Records(r.PathValue("id")), nil })
	do(m, "GET /answers/{name}/{type}", func(r *http.Request, _ struct{}) (any, error) {
		return c.Answers(r.PathValue("name"), r.PathValue("type")), nil
	})
}

// do registers one call that takes a JSON body, which may be left out.
func do[In any](m *http.ServeMux, pattern string, act func(*http.Request, In) (any, error)) {
	m.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
		var in In
		d := json.NewDecoder(http.MaxBytesReader(rw, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			answerJSON(rw, nil, fmt.Errorf("body: %w", err))
			return
		}
		out, err := act(r, in)
		answerJSON(rw, out, err)
	})
}

// idOf is the answer of a call that makes something.
func idOf[T string | int](id T, err error) (any, error) {
	return map[string]T{"id": id}, err
}

func answerJSON(rw http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusBadRequest
		if missing := (*NotFoundError)(nil); errors.As(err, &missing) {
			status = http.StatusNotFound
		}
		v = map[string]string{"error": err.Error()}
	}
	if v == nil {
		v = struct{}{}
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	e := json.NewEncoder(rw)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}
