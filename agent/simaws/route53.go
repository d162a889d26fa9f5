package simaws

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// route53Service speaks the REST XML protocol of Route 53.
type route53Service struct{}

const (
	zonePath      = "/2013-04-01/"
	zoneNamespace = "https://route53.amazonaws.com/doc/2013-04-01/"
)

func (route53Service) name() string  { return "route53" }
func (route53Service) scope() string { return "route53" }

func (route53Service) action(r *http.Request, _ []byte) string {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, zonePath), "/")
	_, below, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	switch r.Method + " " + kind + "/" + below {
	case "POST hostedzone/rrset":
		return "ChangeResourceRecordSets"
	case "GET hostedzone/rrset":
		return "ListResourceRecordSets"
	case "GET hostedzone/":
		return "GetHostedZone"
	case "GET change/":
		return "GetChange"
	}
	return ""
}

func (s route53Service) do(w *World, r *request) (reply, *apiError) {
	id := strings.Split(strings.TrimPrefix(r.http.URL.Path, zonePath)+"/", "/")[1]
	if r.action == "GetChange" {
		return w.getChange(id)
	}
	z := w.zones[id]
	switch {
	case r.action == "":
		return reply{}, failed("UnknownOperationException", "The simulated Route 53 has no operation at %s", r.http.URL.Path)
	case z == nil:
		return reply{}, failed("NoSuchHostedZone", "No hosted zone found with ID: %s", id)
	case r.action == "ChangeResourceRecordSets":
		return w.changeRecords(z, r.body)
	case r.action == "ListResourceRecordSets":
		return z.list(r.http.URL.Query())
	}
	type zoneXML struct {
		ID              string `xml:"Id"`
		Name            string
		CallerReference string
		Count           int `xml:"ResourceRecordSetCount"`
	}
	return zoneReply(struct {
		XMLName    xml.Name `xml:"GetHostedZoneResponse"`
		Namespace  string   `xml:"xmlns,attr"`
		HostedZone zoneXML
	}{HostedZone: zoneXML{"/hostedzone/" + id, z.spec.Name, id, len(z.records)}, Namespace: zoneNamespace})
}

func zoneReply(v any) (reply, *apiError) {
	body, err := xml.Marshal(v)
	if err != nil {
		return reply{}, failed("InternalError", "%v", err)
	}
	return reply{status: 200, contentType: "text/xml", body: append([]byte(xml.Header), body...)}, nil
}

func (route53Service) refuse(why refusal, text string) *apiError {
	return cloudWatchService{}.refuse(why, text) // the same front checks both
}

func (route53Service) deny() string { return "AccessDenied" }

// fail answers an invalid batch in an element of its own, as Route 53 does.
func (route53Service) fail(e *apiError, requestID string) reply {
	var v any
	if e.code == "InvalidChangeBatch" {
		v = struct {
			XMLName   xml.Name `xml:"InvalidChangeBatch"`
			Namespace string   `xml:"xmlns,attr"`
			Messages  []string `xml:"Messages>Message"`
			RequestID string   `xml:"RequestId"`
		}{Namespace: zoneNamespace, Messages: strings.Split(e.message, "\n"), RequestID: requestID}
	} else {
		type errorXML struct{ Type, Code, Message string }
		v = struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Namespace string   `xml:"xmlns,attr"`
			Error     errorXML
			RequestID string `xml:"RequestId"`
		}{Namespace: zoneNamespace, Error: errorXML{"Sender", e.code, e.message}, RequestID: requestID}
	}
	body, _ := xml.Marshal(v)
	return reply{status: e.status, contentType: "text/xml", body: append([]byte(xml.Header), body...)}
}

type changeXML struct {
	ID          string `xml:"Id"`
	Status      string
	SubmittedAt string
}

// changeInfo is a change by its id, which is known.
func (w *World) changeInfo(id string) changeXML {
	status, done := "INSYNC", w.changes[id]
	if done.After(w.Now()) {
		status = "PENDING"
	}
	return changeXML{"/change/" + id, status, w.Now().Format(time.RFC3339)}
}

func (w *World) getChange(id string) (reply, *apiError) {
	if _, known := w.changes[id]; !known {
		return reply{}, failed("NoSuchChange", "Could not find resource with ID: %s", id)
	}
	return zoneReply(struct {
		XMLName    xml.Name  `xml:"GetChangeResponse"`
		Namespace  string    `xml:"xmlns,attr"`
		ChangeInfo changeXML `xml:"ChangeInfo"`
	}{Namespace: zoneNamespace, ChangeInfo: w.changeInfo(id)})
}

// recordXML is a record set on the wire.
type recordXML struct {
	Name   string
	Type   string
	TTL    int64
	Values []valueXML `xml:"ResourceRecords>ResourceRecord"`
}

// valueXML is a value, in an element of its own.
type valueXML struct{ Value string }

func (r recordXML) values() (all []string) {
	for _, v := range r.Values {
		all = append(all, v.Value)
	}
	return all
}

func (w *World) changeRecords(z *zone, body []byte) (reply, *apiError) {
	var in struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeResourceRecordSetsRequest"`
		Changes []struct {
			Action string
			Record recordXML `xml:"ResourceRecordSet"`
		} `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.Unmarshal(body, &in); err != nil {
		return reply{}, failed("InvalidInput", "Invalid XML ; %v", err)
	}
	if len(in.Changes) == 0 || len(in.Changes) > 1000 {
		return reply{}, failed("InvalidChangeBatch", "The batch has %d changes, not 1 to 1000", len(in.Changes))
	}
	next, wrong := slices.Clone(z.records), []string{}
	for _, c := range in.Changes {
		r := Record{Name: fullName(c.Record.Name), Type: c.Record.Type, TTL: c.Record.TTL, Values: c.Record.values()}
		if !z.changeable(r) {
			return reply{}, failed("AccessDenied", "User is not authorized to perform: route53:ChangeResourceRecordSets on resource: arn:aws:route53:::hostedzone/%s because no identity-based policy allows the route53:ChangeResourceRecordSets action", z.spec.ID)
		}
		var why string
		if next, why = z.changed(next, c.Action, r); why != "" {
			wrong = append(wrong, why)
		}
	}
	if len(wrong) > 0 {
		return reply{}, failed("InvalidChangeBatch", "%s", strings.Join(wrong, "\n"))
	}
	id := "C" + strings.ToUpper(w.hex(20))
	done := w.Now().Add(time.Duration(w.conditions.ZoneChangeTakes))
	w.changes[id] = done
	z.become(next, done)
	return zoneReply(struct {
		XMLName    xml.Name  `xml:"ChangeResourceRecordSetsResponse"`
		Namespace  string    `xml:"xmlns,attr"`
		ChangeInfo changeXML `xml:"ChangeInfo"`
	}{Namespace: zoneNamespace, ChangeInfo: w.changeInfo(id)})
}

// list is a page of the record sets, by name with its labels reversed, then by type.
func (z *zone) list(q url.Values) (reply, *apiError) {
	most := 300
	if s := q.Get("maxitems"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return reply{}, failed("InvalidInput", "maxitems %s is not a number above 0", s)
		}
		most = min(most, n)
	}
	name, kind := fullName(q.Get("name")), q.Get("type")
	if kind != "" && q.Get("name") == "" {
		return reply{}, failed("InvalidInput", "The request has a type and no name")
	}
	all := slices.Clone(z.records)
	if q.Get("name") != "" {
		all = slices.DeleteFunc(all, func(r Record) bool { return r.compare(Record{Name: name, Type: kind}) < 0 })
	}
	out := struct {
		XMLName     xml.Name    `xml:"ListResourceRecordSetsResponse"`
		Namespace   string      `xml:"xmlns,attr"`
		Records     []recordXML `xml:"ResourceRecordSets>ResourceRecordSet"`
		IsTruncated bool
		NextName    string `xml:"NextRecordName,omitempty"`
		NextType    string `xml:"NextRecordType,omitempty"`
		MaxItems    int
	}{Namespace: zoneNamespace, MaxItems: most, IsTruncated: len(all) > most}
	if out.IsTruncated {
		out.NextName, out.NextType = escaped(all[most].Name), all[most].Type
	}
	for _, r := range all[:min(most, len(all))] {
		set := recordXML{Name: escaped(r.Name), Type: r.Type, TTL: r.TTL}
		for _, v := range r.Values {
			set.Values = append(set.Values, valueXML{v})
		}
		out.Records = append(out.Records, set)
	}
	return zoneReply(out)
}
