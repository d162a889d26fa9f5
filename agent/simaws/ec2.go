package simaws

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ec2Service speaks the EC2 query protocol: a form in, XML out.
type ec2Service struct{}

const ec2Version = "2016-11-15"

func (ec2Service) name() string  { return "ec2" }
func (ec2Service) scope() string { return "ec2" }

func (ec2Service) action(_ *http.Request, body []byte) string {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return ""
	}
	return form.Get("Action")
}

// ec2Actions are the actions that there are. A mutating one with DryRun goes as
// far as the checks.
var ec2Actions = map[string]func(*World, query) (any, *apiError){
	"AssociateAddress":                     (*World).associateAddress,
	"CreateTags":                           (*World).createTags,
	"DeleteTags":                           (*World).deleteTags,
	"DescribeAddresses":                    (*World).describeAddresses,
	"DescribeInstanceCreditSpecifications": (*World).describeCreditSpecifications,
	"DescribeInstanceTypes":                (*World).describeInstanceTypes,
	"DescribeInstances":                    (*World).describeInstances,
	"DescribeTags":                         (*World).describeTags,
	"DisassociateAddress":                  (*World).disassociateAddress,
}

func (s ec2Service) do(w *World, r *request) (reply, *apiError) {
	form, err := url.ParseQuery(string(r.body))
	if err != nil {
		return reply{}, failed("MalformedQueryString", "The query string is malformed.")
	}
	act := ec2Actions[r.action]
	if act == nil {
		return reply{}, failed("InvalidAction", "The action %s is not valid for this web service.", r.action)
	}
	if v := form.Get("Version"); v != ec2Version {
		return reply{}, failed("NoSuchVersion", "The requested version (%s) of service AmazonEC2 does not exist", v)
	}
	q := query{form}
	out, fail := act(w, q)
	if fail != nil {
		return reply{}, fail
	}
	return ec2Reply(r.action, r.id, out)
}

// ec2Reply wraps the answer in the element that is named after the action.
func ec2Reply(action, requestID string, out any) (reply, *apiError) {
	var inner bytes.Buffer
	if err := xml.NewEncoder(&inner).EncodeElement(out, xml.StartElement{Name: xml.Name{Local: "x"}}); err != nil {
		return reply{}, failed("InternalError", "%v", err)
	}
	content := bytes.TrimSuffix(bytes.TrimPrefix(inner.Bytes(), []byte("<x>")), []byte("</x>"))
	body := fmt.Sprintf("%s<%sResponse xmlns=\"http://ec2.amazonaws.com/doc/%s/\"><requestId>%s</requestId>%s</%sResponse>",
		xml.Header, action, ec2Version, requestID, content, action)
	return reply{status: 200, contentType: "text/xml;charset=UTF-8", body: []byte(body)}, nil
}

func (ec2Service) refuse(why refusal, text string) *apiError {
	switch why {
	case notSigned:
		return &apiError{code: "MissingAuthenticationToken", message: "Request is missing Authentication Token", status: 403}
	case wrongScope:
		return &apiError{code: "SignatureDoesNotMatch", message: text, status: 403}
	case expiredKey:
		return &apiError{code: "RequestExpired", message: "Request has expired.", status: 400}
	default:
		return &apiError{code: "AuthFailure", message: "AWS was not able to validate the provided access credentials", status: 401}
	}
}

func (ec2Service) deny() string { return "UnauthorizedOperation" }

func (ec2Service) fail(e *apiError, requestID string) reply {
	type item struct{ Code, Message string }
	body, _ := xml.Marshal(struct {
		XMLName   xml.Name `xml:"Response"`
		Errors    []item   `xml:"Errors>Error"`
		RequestID string
	}{Errors: []item{{e.code, e.message}}, RequestID: requestID})
	return reply{status: e.status, contentType: "text/xml;charset=UTF-8", body: append([]byte(xml.Header), body...)}
}

// query is the form of an EC2 request.
type query struct{ url.Values }

// list reads Name.1, Name.2 and so on.
func (q query) list(name string) []string {
	var all []string
	for n := 1; q.Has(name + "." + strconv.Itoa(n)); n++ {
		all = append(all, q.Get(name+"."+strconv.Itoa(n)))
	}
	return all
}

// dryRun is the answer to a request that asks only whether it may; nil otherwise.
func (q query) dryRun() *apiError {
	if q.Get("DryRun") != "true" {
		return nil
	}
	return failed("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
}

// filter is one Filter.n of a request.
type filter struct {
	name   string
	values []string
}

func (q query) filters() []filter {
	var all []filter
	for n := 1; ; n++ {
		prefix := "Filter." + strconv.Itoa(n)
		if !q.Has(prefix + ".Name") {
			return all
		}
		all = append(all, filter{q.Get(prefix + ".Name"), q.list(prefix + ".Value")})
	}
}

// fields are the filterable values of one resource, by filter name.
type fields map[string][]string

// withTags adds tag:<key> and tag-key.
func (f fields) withTags(tags map[string]string) fields {
	f["tag-key"] = nil
	for k, v := range tags {
		f["tag:"+k] = []string{v}
		f["tag-key"] = append(f["tag-key"], k)
	}
	return f
}

// match reports whether the resource passes all filters: any value of one, every
// one of them. A filter that the resource kind does not know is an error.
func (f fields) match(filters []filter) (bool, *apiError) {
	all := true
	for _, want := range filters {
		have, known := f[want.name]
		if !known && !strings.HasPrefix(want.name, "tag:") {
			return false, failed("InvalidParameterValue", "The filter '%s' is invalid", want.name)
		}
		all = all && slices.ContainsFunc(want.values, func(pattern string) bool {
			return slices.ContainsFunc(have, func(v string) bool { return wildcard(pattern, v) })
		})
	}
	return all, nil
}

// wildcard matches * (any run) and ? (one byte); a backslash takes either
// literally (EC2 User Guide, "List and filter using the CLI and API").
func wildcard(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	switch pattern[0] {
	case '*':
		for n := range len(s) + 1 {
			if wildcard(pattern[1:], s[n:]) {
				return true
			}
		}
		return false
	case '?':
		return s != "" && wildcard(pattern[1:], s[1:])
	case '\\':
		if len(pattern) > 1 {
			pattern = pattern[1:]
		}
	}
	return s != "" && s[0] == pattern[0] && wildcard(pattern[1:], s[1:])
}

// tagXML is one tag in an answer.
type tagXML struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagsXML(tags map[string]string) []tagXML {
	var all []tagXML
	for _, k := range sortedKeys(tags) {
		all = append(all, tagXML{k, tags[k]})
	}
	return all
}
