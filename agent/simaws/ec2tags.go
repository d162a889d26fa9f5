package simaws

import (
	"maps"
	"strconv"
	"strings"
)

// What tags may be (EC2 User Guide, "Tag restrictions").
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// pairs reads Tag.1.Key, Tag.1.Value and so on; a value that is not there is nil.
func (q query) pairs() map[string]*string {
	all := map[string]*string{}
	for n := 1; ; n++ {
		prefix := "Tag." + strconv.Itoa(n)
		if !q.Has(prefix + ".Key") {
			return all
		}
		all[q.Get(prefix+".Key")] = nil
		if q.Has(prefix + ".Value") {
			v := q.Get(prefix + ".Value")
			all[q.Get(prefix+".Key")] = &v
		}
	}
}

// tagged are the resources of a request, each with its tags and how to replace
// them. One that does not exist fails the request as a whole.
func (w *World) tagged(q query) ([]taggedResource, *apiError) {
	var all []taggedResource
	for _, id := range q.list("ResourceId") {
		switch a, i := w.addresses[id], w.instances[id]; {
		case a != nil:
			all = append(all, taggedResource{a.tags, func(tags map[string]string) { a.tags = tags }})
		case i != nil:
			all = append(all, taggedResource{i.tags, func(tags map[string]string) { i.tags = tags }})
		case strings.HasPrefix(id, "eipalloc-"):
			return nil, unknownAllocation(id)
		case strings.HasPrefix(id, "i-"):
			return nil, unknownInstance(id)
		default:
			return nil, failed("InvalidID", "The ID '%s' is not valid", id)
		}
	}
	if len(all) == 0 {
		return nil, failed("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	return all, nil
}

type taggedResource struct {
	tags    map[string]string
	replace func(map[string]string)
}

type returned struct {
	Return bool `xml:"return"`
}

func (w *World) createTags(q query) (any, *apiError) {
	all, fail := w.tagged(q)
	if fail != nil {
		return nil, fail
	}
	pairs := q.pairs()
	if len(pairs) == 0 {
		return nil, failed("MissingParameter", "The request must contain the parameter tagSet")
	}
	for k, v := range pairs {
		switch {
		case k == "" || len(k) > maxTagKey:
			return nil, failed("InvalidParameterValue", "Tag key length must be between 1 and %d", maxTagKey)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return nil, failed("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		case v != nil && len(*v) > maxTagValue:
			return nil, failed("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxTagValue)
		}
	}
	var changed []map[string]string
	for _, r := range all {
		tags := maps.Clone(r.tags)
		if tags == nil {
			tags = map[string]string{}
		}
		for k, v := range pairs {
			tags[k] = ""
			if v != nil {
				tags[k] = *v
			}
		}
		if len(tags) > maxTags {
			return nil, failed("TagLimitExceeded", "The maximum number of Tags for a resource has been reached")
		}
		changed = append(changed, tags)
	}
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	for n, r := range all {
		r.replace(changed[n])
	}
	w.remember()
	return returned{true}, nil
}

// deleteTags takes the named tags away, one with a value only if it has that
// value; without any tag it takes all (EC2 API reference, DeleteTags).
func (w *World) deleteTags(q query) (any, *apiError) {
	all, fail := w.tagged(q)
	if fail == nil {
		fail = q.dryRun()
	}
	if fail != nil {
		return nil, fail
	}
	pairs := q.pairs()
	for _, r := range all {
		tags := map[string]string{}
		for k, have := range r.tags {
			want, named := pairs[k]
			if len(pairs) > 0 && (!named || want != nil && *want != have) {
				tags[k] = have
			}
		}
		r.replace(tags)
	}
	w.remember()
	return returned{true}, nil
}
