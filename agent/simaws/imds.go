package simaws

import (
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of IMDSv2 (EC2 User Guide, "How Instance Metadata Service Version 2 works").
const (
	tokenHeader    = "X-Aws-Ec2-Metadata-Token"
	tokenTTLHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// maxTokenTTL is six hours, in seconds.
const maxTokenTTL = 21600

// keptTokens bounds the tokens of one instance.
const keptTokens = 10000

// imdsVersion is what every path begins with.
var imdsVersion = regexp.MustCompile(`^/(latest|1\.0|20\d\d-\d\d-\d\d)(/.*)?$`)

// imds is the instance metadata service of one instance, version 2 only. An
// instance that does not run has none: the connection is cut.
func (c *Cloud) imds(id string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		version, path := "", r.URL.Path
		if m := imdsVersion.FindStringSubmatch(path); m != nil {
			version, path = m[1], m[2]
		}
		call := Call{Service: "imds", Action: r.Method + " " + path, Instance: id}
		f, hit := c.takeFault(call.Service, call.Action, id)
		gone := hit && !c.begin(r, f)
		out := reply{}
		switch fail := f.failure(); {
		case gone:
		case fail != nil:
			call.Error, out = fail.code, imdsError(fail.status)
		default:
			out = c.answerIMDS(id, version, path, r)
		}
		if out.status == hopLimit {
			c.finish(call)
			select {
			case <-r.Context().Done():
			case <-c.stopping.Done():
			}
			panic(http.ErrAbortHandler)
		}
		if out.status >= 400 && call.Error == "" {
			call.Error = strconv.Itoa(out.status)
		}
		call.Dropped = out.status == 0 || f.Drop == "after"
		c.finish(call)
		if call.Dropped {
			panic(http.ErrAbortHandler)
		}
		rw.Header().Set("Server", "EC2ws")
		send(rw, out, "")
	})
}

// Metadata is the instance metadata service of all instances at one address, where AWS
// has it: the private address that a request comes from says whose it is.
func (c *Cloud) Metadata() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr) // a server's own form
		c.imds(c.at(from)).ServeHTTP(rw, r)
	})
}

// at is the instance with that private address, or empty.
func (w *World) at(private string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, i := range w.instances {
		for _, n := range i.enis {
			if i.state == "running" && slices.Contains(n.privateIPs, private) {
				return id
			}
		}
	}
	return ""
}

// hopLimit as a status means that the answer never reaches the asker.
const hopLimit = -1

func imdsError(status int) reply {
	text := strconv.Itoa(status) + " - " + http.StatusText(status)
	return reply{
		status:      status,
		contentType: "text/html",
		body: []byte("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n" +
			"<html><head><title>" + text + "</title></head><body><h1>" + text + "</h1></body></html>\n"),
	}
}

// answerIMDS answers one request; status 0 means that nobody is there to answer.
func (w *World) answerIMDS(id, version, path string, r *http.Request) reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.instances[id]
	if i == nil || i.state != "running" {
		return reply{}
	}
	if r.Method == http.MethodPut {
		return w.issueToken(i, version, path, r.Header)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return imdsError(http.StatusMethodNotAllowed)
	}
	expires, known := i.tokens[r.Header.Get(tokenHeader)]
	if !known || !expires.After(w.wall()) {
		return imdsError(http.StatusUnauthorized)
	}
	if version == "" {
		if path == "/" {
			return reply{status: 200, contentType: "text/plain", body: []byte("1.0\nlatest")}
		}
		return imdsError(http.StatusNotFound)
	}
	body, ok := lookUp(w.metadata(i), path)
	if !ok {
		return imdsError(http.StatusNotFound)
	}
	return reply{status: 200, contentType: "text/plain", body: []byte(body)}
}

// issueToken answers the PUT. A dated version of the path and a proxy's header
// are both refused with 403.
func (w *World) issueToken(i *instance, version, path string, h http.Header) reply {
	switch {
	case i.hopBlock:
		return reply{status: hopLimit}
	case path != "/api/token":
		return imdsError(http.StatusMethodNotAllowed)
	case version != "latest" || h.Get("X-Forwarded-For") != "":
		return imdsError(http.StatusForbidden)
	}
	ttl, err := strconv.Atoi(h.Get(tokenTTLHeader))
	if err != nil || ttl < 1 || ttl > maxTokenTTL {
		return imdsError(http.StatusBadRequest)
	}
	now := w.wall()
	for t, expires := range i.tokens {
		if !expires.After(now) || len(i.tokens) >= keptTokens {
			delete(i.tokens, t)
		}
	}
	token := "AQAEA" + w.hex(48) + "=="
	i.tokens[token] = now.Add(time.Duration(ttl) * time.Second)
	return reply{
		status:      200,
		contentType: "text/plain",
		header:      map[string]string{tokenTTLHeader: strconv.Itoa(ttl)},
		body:        []byte(token),
	}
}

// RevokeTokens makes all IMDS tokens of an instance unknown, as a restart of its
// metadata service would.
func (w *World) RevokeTokens(id string) error {
	return w.with(id, func(i *instance) error {
		clear(i.tokens)
		return nil
	})
}

// lookUp answers a leaf with its value and a directory with the names in it,
// one a line, directories with a slash.
func lookUp(leaves map[string]string, path string) (string, bool) {
	if v, ok := leaves[strings.TrimPrefix(path, "/")]; ok {
		return v, true
	}
	dir := strings.Trim(path, "/")
	if dir != "" {
		dir += "/"
	}
	var names []string
	for leaf := range leaves {
		rest, inside := strings.CutPrefix(leaf, dir)
		if !inside {
			continue
		}
		name, _, deeper := strings.Cut(rest, "/")
		if deeper {
			name += "/"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n"), len(names) > 0
}

// metadata is everything that an instance's IMDS serves, by path without the version.
func (w *World) metadata(i *instance) map[string]string {
	m := map[string]string{}
	put := func(path, value string) { m["meta-data/"+path] = value }
	primary := i.enis[0]
	put("ami-id", i.image)
	put("ami-launch-index", "0")
	put("instance-action", "none")
	put("instance-id", i.id)
	put("instance-life-cycle", i.lifeCycle)
	put("instance-type", i.hw.name)
	put("local-ipv4", primary.privateIPs[0])
	put("local-hostname", privateName(primary.privateIPs[0], w.region))
	put("hostname", privateName(primary.privateIPs[0], w.region))
	put("mac", primary.mac)
	put("placement/availability-zone", i.zone)
	put("placement/availability-zone-id", "sim1-az1")
	put("placement/region", w.region)
	put("reservation-id", reservationID(i))
	put("security-groups", "default")
	put("services/domain", "amazonaws.com")
	put("services/partition", "aws")
	w.putInterfaces(i, put)
	w.putRole(i, put)
	putNotices(i.notices, put)
	if i.tagsInMetadata {
		tags := i.tags
		if i.hw.xen {
			tags = i.startTags
		}
		for k, v := range tags {
			if !strings.ContainsAny(k, " /") {
				put("tags/instance/"+k, v)
			}
		}
	}
	m["dynamic/instance-identity/document"] = w.identityDocument(i)
	if i.userData != "" {
		m["user-data"] = i.userData
	}
	return m
}

func privateName(ip, region string) string {
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + "." + region + ".compute.internal"
}

func publicName(ip, region string) string {
	return "ec2-" + strings.ReplaceAll(ip, ".", "-") + "." + region + ".compute.amazonaws.com"
}

func (w *World) putInterfaces(i *instance, put func(path, value string)) {
	seen := w.asOf(w.conditions.MetadataLag)
	for _, n := range i.enis {
		dir := "network/interfaces/macs/" + n.mac + "/"
		put(dir+"device-number", strconv.Itoa(n.device))
		put(dir+"interface-id", n.id)
		put(dir+"local-hostname", privateName(n.privateIPs[0], w.region))
		put(dir+"local-ipv4s", strings.Join(n.privateIPs, "\n"))
		put(dir+"mac", n.mac)
		put(dir+"owner-id", w.account)
		put(dir+"security-groups", "default")
		put(dir+"subnet-id", subnetID)
		put(dir+"subnet-ipv4-cidr-block", "10.0.0.0/20")
		put(dir+"vpc-id", vpcID)
		put(dir+"vpc-ipv4-cidr-block", "10.0.0.0/16")
		var public []string
		for _, p := range w.publicIPs(seen, n) {
			public = append(public, p.public)
			put(dir+"ipv4-associations/"+p.public, p.private)
			if n.device == 0 && p.private == n.privateIPs[0] {
				put("public-ipv4", p.public)
				put("public-hostname", publicName(p.public, w.region))
				put(dir+"public-hostname", publicName(p.public, w.region))
			}
		}
		if len(public) > 0 {
			put(dir+"public-ipv4s", strings.Join(public, "\n"))
		}
	}
}

// noRole as the role of an instance says that it has none.
const noRole = "-"

func (w *World) putRole(i *instance, put func(path, value string)) {
	if i.role == noRole {
		return
	}
	id, k := w.roleCredentials(i.id)
	credentials, _ := json.MarshalIndent(struct {
		Code            string
		LastUpdated     string
		Type            string
		AccessKeyId     string //nolint:revive,staticcheck // the field's real name
		SecretAccessKey string
		Token           string
		Expiration      string
	}{"Success", k.issued.UTC().Format(time.RFC3339), "AWS-HMAC", id, k.secret, k.token, k.expires.UTC().Format(time.RFC3339)}, "", "  ")
	put("iam/security-credentials/"+i.role, string(credentials))
	info, _ := json.MarshalIndent(map[string]string{
		"Code":               "Success",
		"LastUpdated":        k.issued.UTC().Format(time.RFC3339),
		"InstanceProfileArn": "arn:aws:iam::" + w.account + ":instance-profile/" + i.role,
		"InstanceProfileId":  "AIPASIMULATED00000000",
	}, "", "  ")
	put("iam/info", string(info))
}

// eventTime is the form of a time in a scheduled event.
const eventTime = "2 Jan 2006 15:04:05 GMT"

func putNotices(n Notices, put func(path, value string)) {
	if n.SpotAction != "" {
		at := n.SpotTime.UTC().Format(time.RFC3339)
		action, _ := json.Marshal(struct {
			Action string `json:"action"`
			Time   string `json:"time"`
		}{n.SpotAction, at})
		put("spot/instance-action", string(action))
		if n.SpotAction == "terminate" {
			put("spot/termination-time", at)
		}
	}
	if !n.Rebalance.IsZero() {
		put("events/recommendations/rebalance", `{"noticeTime":"`+n.Rebalance.UTC().Format(time.RFC3339)+`"}`)
	}
	if n.TargetLifecycleState != "" {
		put("autoscaling/target-lifecycle-state", n.TargetLifecycleState)
	}
	type event struct {
		NotBefore   string
		Code        string
		Description string
		EventId     string //nolint:revive,staticcheck // the field's real name
		NotAfter    string `json:",omitempty"`
		State       string
	}
	scheduled, history := []event{}, []event{}
	for _, x := range n.Maintenance {
		e := event{NotBefore: x.NotBefore.UTC().Format(eventTime), Code: x.Code, Description: x.Description, EventId: x.EventID, State: x.State}
		if !x.NotAfter.IsZero() {
			e.NotAfter = x.NotAfter.UTC().Format(eventTime)
		}
		if x.State == "active" {
			scheduled = append(scheduled, e)
		} else {
			history = append(history, e)
		}
	}
	a, _ := json.Marshal(scheduled)
	put("events/maintenance/scheduled", string(a))
	b, _ := json.Marshal(history)
	put("events/maintenance/history", string(b))
}

func (w *World) identityDocument(i *instance) string {
	b, _ := json.MarshalIndent(map[string]any{
		"accountId":               w.account,
		"architecture":            i.hw.arch,
		"availabilityZone":        i.zone,
		"billingProducts":         nil,
		"devpayProductCodes":      nil,
		"marketplaceProductCodes": nil,
		"imageId":                 i.image,
		"instanceId":              i.id,
		"instanceType":            i.hw.name,
		"kernelId":                nil,
		"pendingTime":             i.launched.Format(time.RFC3339),
		"privateIp":               i.enis[0].privateIPs[0],
		"ramdiskId":               nil,
		"region":                  w.region,
		"version":                 "2017-09-30",
	}, "", "  ")
	return string(b)
}
