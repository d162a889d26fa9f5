package dockerapi

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestValues(t *testing.T) {
	id := strings.Repeat("0f", 32)
	long := strings.Repeat("x", maxValue)
	some := strings.Repeat("y", lessValue)
	for name, row := range map[string]struct {
		in, want string
		most     int64
		err      error
	}{
		"an object":                        {`{"Id":"a","Labels":{"b":"}\"]"}}` + "\n", `{"Id":"a","Labels":{"b":"}\"]"}}` + "\n", 100, nil},
		"a list":                           {`[{"a":[1,2]},{"b":"[,"} , {}]`, `[{"a":[1,2]},{"b":"[,"}  ,{}]`, 100, nil},
		"an empty list":                    {`[]`, `[]`, 100, nil},
		"what is no object":                {`OK`, `OK`, 100, nil},
		"text with quotes":                 {`"a\"{" {"b":1}`, `"a\"{" {"b":1}`, 100, nil},
		"a long inspection":                {`{"Id":"` + id + `","Config":{"Labels":{"a":"` + long + `"}}}`, `{"Id":"` + id + `"}`, maxAnswer, nil},
		"a long error":                     {`{"message":"` + long + `"}`, ``, maxAnswer, nil},
		"the first of a list is long":      {`[{"Id":"` + id + `","Labels":{"a":"` + long + `"}},{"Id":"b"}]`, `[{"Id":"` + id + `"},{"Id":"b"}]`, maxAnswer, nil},
		"one without an id":                {`[{"L":"` + long + `"},{"Id":"b"}]`, `[{"Id":"b"}]`, maxAnswer, nil},
		"the last of a list is long":       {`[{"Id":"b"},{"L":"` + long + `"}]`, `[{"Id":"b"}]`, maxAnswer, nil},
		"a long event":                     {`{"a":1}` + "\n" + `{"L":"` + long + `"}` + "\n" + `{"b":1}` + "\n", `{"a":1}` + "\n\n" + `{"b":1}` + "\n", -1, nil},
		"more than there is room for":      {`[` + strings.Repeat(`{},`, 200) + `{}]`, "", 100, errTooLong},
		"a stream has no end":              {strings.Repeat(`{}`, 200), strings.Repeat(`{}`, 200), -1, nil},
		"where room is short, a small one": {`[` + strings.Repeat(`{"a":"`+long[:maxValue/2]+`"},`, 80) + `{"L":"` + some + `"},{"Id":"b"}]`, `[` + strings.Repeat(`{"a":"`+long[:maxValue/2]+`"},`, 64) + `{"Id":"b"}]`, maxAnswer, nil},
	} {
		got, err := io.ReadAll(iotest.OneByteReader(newValues(iotest.HalfReader(strings.NewReader(row.in)), row.most)))
		if err != row.err || err == nil && string(got) != row.want {
			t.Errorf("%s: %d bytes %.200q, error %v; want %d bytes %.200q, %v", name, len(got), got, err, len(row.want), row.want, row.err)
		}
	}
}

// What is short comes as it is.
func FuzzValues(f *testing.F) {
	f.Add(`[{"Id":"a","Labels":{"b":"}\"]","c":null}},{"d":[1,[2,{"e":"\\"}]]}]`)
	f.Add(`{"a":"\u0022{"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, in string) {
		var want any
		if json.Unmarshal([]byte(in), &want) != nil {
			return
		}
		if list, ok := want.([]any); ok { // Docker's lists have objects alone
			for _, one := range list {
				switch one.(type) {
				case map[string]any, []any:
				default:
					return
				}
			}
		}
		text, err := io.ReadAll(newValues(strings.NewReader(in), maxAnswer))
		var got any
		if err != nil || len(in) < lessValue && (json.Unmarshal(text, &got) != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%q became %q, %v", in, text, err)
		}
	})
}
