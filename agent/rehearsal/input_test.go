package rehearsal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// utf16Text is text of ASCII in UTF-16, the lesser byte first.
func utf16Text(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteByte(c)
		b.WriteByte(0)
	}
	return b.String()
}

// ReadTrace reads a trace of one file.
func ReadTrace(text []byte) (Trace, error) {
	ps, err := ReadPoints(text)
	if err != nil {
		return Trace{}, err
	}
	return Regular(ps)
}

func TestReadTrace(t *testing.T) {
	want := Trace{Start: start, Step: 5 * time.Minute, Values: []float64{1, 2.5, 3}}
	filled := Trace{Start: start, Step: 5 * time.Minute, Values: []float64{1, 1, 3, 4}, Filled: 1}
	lastYear := Trace{Start: time.Date(2025, 12, 31, 23, 50, 0, 0, time.UTC), Step: 5 * time.Minute, Values: []float64{1, 2.5, 3}}
	for _, row := range []struct {
		name, text string
		want       Trace
		fault      string
	}{
		{name: "plain", text: "timestamp,value\n2026-03-02 00:00:00,1\n2026-03-02 00:05:00,2.5\n2026-03-02 00:10:00,3\n", want: want},
		{name: "no heading, RFC 3339, out of order", text: "2026-03-02T00:10:00Z,3\n2026-03-02T09:00:00+09:00,1\r\n2026-03-02T00:05:00Z,2.5\n", want: want},
		{name: "seconds since 1970", text: "1772409600,1\n1772409900,2.5\n1772410200,3\n", want: want},
		{name: "CloudWatch's console", text: "\ufeffFull label,i-0abc CPUUtilization\nLabel,CPUUtilization\nStatistic,Average\nPeriod,300\n\n2026/03/02 00:00:00,1,\n2026/03/02 00:05:00,2.5,\n2026/03/02 00:10:00,3,\n", want: want},
		{name: "get-metric-statistics", text: `{"Label":"CPUUtilization","Datapoints":[{"Timestamp":"2026-03-02T00:10:00+00:00","Average":3,"Unit":"Percent"},{"Timestamp":"2026-03-02T00:00:00Z","Average":1.0,"Unit":"Percent"},{"Timestamp":"2026-03-02T00:05:00Z","Average":2.5,"Unit":"Percent"}]}`, want: want},
		{name: "get-metric-data", text: `{"MetricDataResults":[{"Id":"m1","Timestamps":["2026-03-02T00:10:00Z","2026-03-02T00:05:00Z","2026-03-02T00:00:00Z"],"Values":[3,2.5,1]}]}`, want: want},
		{name: "a hole", text: "2026-03-02 00:00:00,1\n2026-03-02 00:10:00,3\n2026-03-02 00:15:00,4\n2026-03-02 00:05:00,\n", want: filled},
		{name: "a moment twice", text: "2026-03-02 00:00:00,1\n2026-03-02 00:00:00,1\n2026-03-02 00:05:00,2.5\n2026-03-02 00:10:00,3\n", want: want},
		{name: "semicolons and decimal commas", text: "Zeit;CPU\n2026-03-02 00:00:00;1,0\n2026-03-02 00:05:00;2,5\n2026-03-02 00:10:00;3\n", want: want},
		{name: "tabs", text: "2026-03-02 00:00:00\t1\n2026-03-02 00:05:00\t2.5\n2026-03-02 00:10:00\t3\n", want: want},
		{name: "milliseconds since 1970", text: "1772409600000,1\n1772409900000,2.5\n1772410200000,3\n", want: want},
		{name: "the value first", text: "value,time\n1,2026-03-02 00:00:00\n2.5,2026-03-02 00:05:00\n3,2026-03-02 00:10:00\n", want: want},
		{name: "a list of data points", text: `[{"Timestamp":"2026-03-02T00:10:00Z","Average":3},{"Timestamp":"2026-03-02T00:00:00Z","Average":1.0},{"Timestamp":"2026-03-02T00:05:00Z","Average":2.5}]`, want: want},
		{name: "per cent signs", text: "2026-03-02 00:00:00,1%\n2026-03-02 00:05:00,2.5 %\n2026-03-02 00:10:00,3%\n", want: want},
		{
			name: "a stopped instance has no load", text: "2026-03-02 00:00:00,1\n2026-03-02 00:30:00,2\n2026-03-02 01:00:00,3\n2026-03-02 03:00:00,4\n2026-03-02 03:30:00,5\n",
			want: Trace{Start: start, Step: 30 * time.Minute, Values: []float64{1, 2, 3, 0, 0, 0, 4, 5}, Stopped: 3},
		},
		{name: "two metrics", text: "time,CPU,network\n2026-03-02 00:00:00,1,700\n2026-03-02 00:05:00,2,800\n", fault: "line 2: there are several values"},
		{name: "month first, by a day above 12", text: "time,CPU\n12/31/2025 23:50,1\n12/31/2025 23:55,2.5\n1/1/2026 0:00,3\n", want: lastYear},
		{name: "the same with a clock of twelve hours", text: "12/31/25 11:50:00 PM,1\n12/31/25 11:55:00 PM,2.5\n1/1/26 12:00:00 AM,3\n", want: lastYear},
		{name: "day first, by a day above 12", text: "31/12/2025 23:50;1,0\n31/12/2025 23:55;2,5\n01/01/2026 00:00;3\n", want: lastYear},
		{name: "day first, by what follows what", text: "01/03/2026 23:50,9\n01/03/2026 23:55,9\n02/03/2026 00:00,1\n02/03/2026 00:05,2.5\n02/03/2026 00:10,3\n", want: Trace{Start: start.Add(-10 * time.Minute), Step: 5 * time.Minute, Values: []float64{9, 9, 1, 2.5, 3}}},
		{name: "points are for days first", text: "02.03.2026 00:00:00;1\n02.03.2026 00:05:00;2,5\n02.03.2026 00:10:00;3\n", want: want},
		{name: "a day that is its month", text: "3/3/2026 0:00,1\n3/3/2026 0:05,2.5\n3/3/2026 0:10,3\n", want: Trace{Start: start.Add(day), Step: 5 * time.Minute, Values: []float64{1, 2.5, 3}}},
		{name: "either order", text: "time,CPU\n3/2/2026 0:00,1\n3/2/2026 0:05,2\n", fault: "line 2: day and month of \"3/2/2026 0:00\" may be mistaken for each other, and no other line tells: write 2026-03-02 04:05:00"},
		{name: "neither order", text: "time,CPU\n3/22/2026 0:00,1\n22/3/2026 0:05,2\n", fault: "line 3: \"22/3/2026 0:05\" is not a time such as"},
		{name: "no date in either order", text: "time,CPU\n3/2/2026 0:00,1\n33/22/2026 0:05,2\n", fault: "line 3: \"33/22/2026 0:05\" is not a time such as"},
		{name: "fractions that say so", text: "time,CPU (fraction)\n2026-03-02 00:00:00,0.01\n2026-03-02 00:05:00,0.025\n2026-03-02 00:10:00,0.03\n", want: want},
		{name: "little load that says so", text: "time,CPU %\n2026-03-02 00:00:00,0.5\n2026-03-02 00:05:00,1\n", want: Trace{Start: start, Step: 5 * time.Minute, Values: []float64{0.5, 1}}},
		{name: "little load with signs", text: "2026-03-02 00:00:00,0.5%\n2026-03-02 00:05:00,1%\n", want: Trace{Start: start, Step: 5 * time.Minute, Values: []float64{0.5, 1}}},
		{name: "fractions or little load", text: "time,CPU\n2026-03-02 00:00:00,0.5\n2026-03-02 00:05:00,1\n", fault: "line 2: no value is above 1, which may be per cent or fractions: write a heading with the word percent or fraction, or a % behind each value"},
		{name: "offsets without a colon", text: "2026-03-02 09:00:00+0900,1\n2026-03-02T09:05:00+0900,2.5\n2026-03-02 00:10:00 +0000,3\n", want: want},
		{name: "without seconds, in UTC", text: "2026-03-02T00:00Z,1\n2026-03-02T00:05Z,2.5\n2026-03-02 00:10:00 UTC,3\n", want: want},
		{name: "a zone by its name", text: "time,CPU\n2026-03-02 09:00:00 JST,1\n2026-03-02 09:05:00 JST,2.5\n", fault: `line 3: "2026-03-02 09:05:00 JST,2.5" is not a time and a value such as 2026-03-02 04:05:00,12.5, nor is any line before`},
		{name: "days", text: "2026-03-02,1\n2026-03-03,2.5\n2026-03-04,3\n", want: Trace{Start: start, Step: day, Values: want.Values}},
		{name: "date and time of day in two columns", text: "date,time,cpu\n2026-03-02,00:00:00,1\n2026-03-02,0:05,2.5\n2026-03-02,12:10:00 AM,3\n", fault: `line 4: "2026-03-02 12:10:00 AM" is not a time`},
		{name: "date and time of day in two columns, as everywhere", text: "date,time,cpu\n2026-03-02,00:00:00,1\n2026-03-02,00:05,2.5\n2026-03-02, 00:10:00,3\n", want: want},
		{name: "the same, month first", text: "12/31/2025,11:50:00 PM,1\n12/31/2025,11:55:00 PM,2.5\n1/1/2026,12:00:00 AM,3\n", want: lastYear},
		{name: "the AWS CLI's text", text: "CPUUtilization\nDATAPOINTS\t0.5\t2026-03-02T00:05:00+00:00\tPercent\nDATAPOINTS\t1.0\t2026-03-02T00:00:00Z\tPercent\n", want: Trace{Start: start, Step: 5 * time.Minute, Values: []float64{1, 0.5}}},
		{name: "UTF-16 of Windows", text: "\xff\xfe" + utf16Text("time,CPU\r\n2026-03-02 00:00:00,1\r\n2026-03-02 00:05:00,2.5\r\n2026-03-02 00:10:00,3\r\n"), want: want},
		{name: "compressed", text: "\x1f\x8b\x08\x00\x00", fault: "it is compressed; unpack it with gunzip"},
		{name: "spaces between", text: "2026-03-02T00:00:00Z 1\n2026-03-02T00:05:00Z 2\n", fault: `line 2: "2026-03-02T00:05:00Z 2" is not a time and a value such as`},
		{name: "what is idle", text: "time,%idle\n2026-03-02 00:00:00,99\n2026-03-02 00:05:00,98\n", fault: "line 1: it is about idle; give CPUUtilization"},
		{name: "memory", text: "time,mem_used_percent\n2026-03-02 00:00:00,50\n2026-03-02 00:05:00,50\n", fault: "line 1: it is about mem_used_percent; give CPUUtilization"},
		{name: "another program's JSON", text: `{"status":"success","data":{"result":[]}}`, fault: "it has neither Datapoints nor MetricDataResults"},
		{name: "nothing", text: "", fault: "no two lines"},
		{name: "credits", text: "timestamp,CPUCreditUsage\n2026-03-02 00:00:00,1\n2026-03-02 00:05:00,2\n", fault: "line 1: it is about CPUCreditUsage; give CPUUtilization"},
		{name: "two metrics by name, one without values", text: "time,CPUUtilization,NetworkIn\n2026-03-02 00:00:00,1,\n2026-03-02 00:05:00,2.5,\n2026-03-02 00:10:00,3,\n", want: want},
		{name: "another metric's points", text: `{"Label":"CPUCreditBalance","Datapoints":[{"Timestamp":"2026-03-02T00:10:00Z","Average":3}]}`, fault: "it is about CPUCreditBalance; ask for CPUUtilization"},
		{name: "two metrics by name", text: "time,NetworkIn,CPUUtilization\n2026-03-02 00:00:00,700,1\n2026-03-02 00:05:00,800,2.5\n2026-03-02 00:10:00,900,3\n", want: want},
		{name: "two metrics by name, a line too short", text: "time,NetworkIn,CPUUtilization\n2026-03-02 00:00:00,700\n", fault: "line 2: there is no column 3"},
		{name: "the CPU use of two instances", text: "time,a CPUUtilization,b CPUUtilization\n2026-03-02 00:00:00,1,2\n2026-03-02 00:05:00,2,3\n", fault: "line 2: there are several values"},
		{name: "another metric's results", text: `{"MetricDataResults":[{"Label":"i-0abc NetworkIn","Timestamps":["2026-03-02T00:10:00Z"],"Values":[3]}]}`, fault: "it is about NetworkIn; ask for CPUUtilization"},
		{name: "the largest values", text: `[{"Timestamp":"2026-03-02T00:10:00Z","Maximum":3},{"Timestamp":"2026-03-02T00:15:00Z","Maximum":3}]`, fault: "data point 1 has no Average"},
		{name: "no data points", text: `{"Label":"CPUUtilization","Datapoints":[]}`, fault: "CloudWatch had no data points; see that the instance"},
		{name: "pairs", text: `[[1772409600, "1"], [1772409900, "2"]]`, fault: "at byte 2 stands a JSON array where none is in what"},
		{name: "one line", text: "2026-03-02 00:00:00,2\n", fault: "no two lines"},
		{name: "words for a value", text: "2026-03-02 00:00:00,1\n2026-03-02 00:05:00,busy\n", fault: `line 2: "busy" is not a number`},
		{name: "no value", text: "2026-03-02 00:00:00,1\n2026-03-02 00:05:00\n", fault: "line 2: there is no value"},
		{name: "words for a time", text: "2026-03-02 00:00:00,1\nlater,2\n", fault: `line 2: "later" is not a time`},
		{name: "more than all", text: "2026-03-02 00:00:00,1\n2026-03-02 00:05:00,250\n", fault: "line 2: 250 is not 0 to 100"},
		{name: "not a number", text: "2026-03-02 00:00:00,1\n2026-03-02 00:05:00,NaN\n", fault: "line 2"},
		{
			name: "an hour twice, as where summer time ends", text: "2026-10-25 01:30:00,1\n2026-10-25 02:00:00,2\n2026-10-25 02:30:00,3\n" +
				"2026-10-25 02:00:00,2\n2026-10-25 02:30:00,5\n2026-10-25 03:00:00,6\n",
			fault: "2026-10-25 02:30:00 has two values, 3 and 5; give one, and times in UTC if these are local ones where summer time ended",
		},
		{name: "mostly holes", text: "2026-03-02 00:00:00,2\n2026-03-02 00:05:00,1\n2026-03-02 00:10:00,1\n2026-03-09 00:00:00,1\n", fault: "are missing"},
		{name: "another unit", text: `{"Datapoints":[{"Timestamp":"2026-03-02T00:10:00Z","Average":3,"Unit":"Count"}]}`, fault: "CPUUtilization"},
		{name: "another statistic", text: `{"Datapoints":[{"Timestamp":"2026-03-02T00:10:00Z","Sum":3}]}`, fault: "--statistics Average"},
	} {
		got, err := ReadTrace([]byte(row.text))
		switch {
		case row.fault != "":
			if err == nil || !strings.Contains(err.Error(), row.fault) {
				t.Errorf("%s: error %v, want one with %q", row.name, err, row.fault)
			}
		case err != nil:
			t.Errorf("%s: %v", row.name, err)
		default:
			if d := cmp.Diff(row.want, got); d != "" {
				t.Errorf("%s: %s", row.name, d)
			}
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte("timestamp,value\n2026-03-02 00:00:00,1\n2026-03-02 00:05:00,2.5\n"))
	f.Add([]byte(`{"Datapoints":[{"Timestamp":"2026-03-02T00:10:00Z","Average":3}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := ReadTrace(text)
		if err != nil {
			return
		}
		if tr.Step <= 0 || len(tr.Values) < 2 {
			t.Fatalf("%+v", tr)
		}
		for i := range len(tr.Values) + 10 {
			if v := tr.at(i); !(v >= 0 && v <= 100) {
				t.Fatalf("value %d is %v", i, v)
			}
		}
	})
}

func TestTheLastDayRepeats(t *testing.T) {
	tr := Trace{Start: start, Step: 6 * time.Hour, Values: []float64{9, 9, 1, 2, 3, 4}}
	var got []float64
	for i := range 10 {
		got = append(got, tr.at(i))
	}
	if d := cmp.Diff([]float64{9, 9, 1, 2, 3, 4, 1, 2, 3, 4}, got); d != "" {
		t.Error(d)
	}
	if got := tr.mean(15*time.Hour, 21*time.Hour); got != 1.5 {
		t.Errorf("half of 1 and half of 2 is %v", got)
	}
	short := Trace{Start: start, Step: time.Hour, Values: []float64{5, 6}}
	if short.at(2) != 5 || short.at(5) != 6 {
		t.Error("a trace of less than a day does not repeat whole")
	}
}

func TestSchedule(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	testenv.Need(t, err)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		text     string
		zone     *time.Location
		from, to string
		want     []string
	}{
		{"30 1 * * *", tokyo, "2026-03-02T00:00", "2026-03-04T00:00", []string{"2026-03-02T16:30", "2026-03-03T16:30"}},
		{"*/20 9-10 * * mon-fri", time.UTC, "2026-03-06T00:00", "2026-03-09T09:30", []string{"2026-03-06T09:00", "2026-03-06T09:20", "2026-03-06T09:40", "2026-03-06T10:00", "2026-03-06T10:20", "2026-03-06T10:40", "2026-03-09T09:00", "2026-03-09T09:20"}},
		{"0 0 1 * 7", time.UTC, "2026-03-01T00:00", "2026-04-02T00:00", []string{"2026-03-01T00:00", "2026-03-08T00:00", "2026-03-15T00:00", "2026-03-22T00:00", "2026-03-29T00:00", "2026-04-01T00:00"}},
		{"@monthly", time.UTC, "2026-02-15T00:00", "2026-05-01T00:00", []string{"2026-03-01T00:00", "2026-04-01T00:00"}},
		{"5/30 * * jan *", time.UTC, "2025-12-31T23:00", "2026-01-01T01:10", []string{"2026-01-01T00:05", "2026-01-01T00:35", "2026-01-01T01:05"}},
		{"cron(30 22 ? * 2-3 *)", time.UTC, "2026-03-02T00:00", "2026-03-09T00:00", []string{"2026-03-02T22:30", "2026-03-03T22:30"}},
		{"cron(0 4 ? * SUN *)", time.UTC, "2026-03-02T00:00", "2026-03-09T00:00", []string{"2026-03-08T04:00"}},
		{"rate(12 hours)", time.UTC, "2026-03-02T00:00", "2026-03-03T00:00", []string{"2026-03-02T00:00", "2026-03-02T12:00"}},
		{"rate(1 day)", time.UTC, "2026-03-02T00:00", "2026-03-03T00:00", []string{"2026-03-02T00:00"}},
		{"rate(30 minutes)", time.UTC, "2026-03-02T00:00", "2026-03-02T01:00", []string{"2026-03-02T00:00", "2026-03-02T00:30"}},
		// The clocks go forward at 02:00 on 29 March, back at 03:00 on 25 October.
		{"30 2 * * *", berlin, "2026-03-28T12:00", "2026-03-30T12:00", []string{"2026-03-29T01:30", "2026-03-30T00:30"}},
		{"30 2 * * *", berlin, "2026-10-24T12:00", "2026-10-26T12:00", []string{"2026-10-25T01:30", "2026-10-26T01:30"}},
	} {
		s, err := parseSchedule(row.text, row.zone)
		if err != nil {
			t.Errorf("%s: %v", row.text, err)
			continue
		}
		from, _ := time.Parse("2006-01-02T15:04", row.from)
		to, _ := time.Parse("2006-01-02T15:04", row.to)
		var got []string
		for _, at := range s.Between(from, to) {
			got = append(got, at.Format("2006-01-02T15:04"))
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s: %s", row.text, d)
		}
	}
	for text, fault := range map[string]string{
		"* * * *": "4 fields", "60 * * * *": "minute", "* 9-5 * * *": "backwards", "*/0 * * * *": "step",
		"* * 0 * *": "day of the month", "* * * foo *": "month", "* * * * 8": "day of the week", "": "0 fields",
		"rate(7 hours)": "divides", "rate(soon)": "divides", "cron(0 4 * * ? 2027)": "cron(minute", "cron(0 4 L * ? *)": "days with L, W or #",
		"cron(0 22 ? * 6#1 *)": "6#1 *)\": days with L", "cron(0 22 1W * ? *)": "days with L",
	} {
		if _, err := parseSchedule(text, time.UTC); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v, want an error about %q", text, err, fault)
		}
	}
}

func utcOnly(name string) (*time.Location, error) {
	if name == "UTC" {
		return time.UTC, nil
	}
	return nil, errors.New("unknown")
}

func TestReadJobs(t *testing.T) {
	jobs, err := ReadJobs([]byte(`
jobs:
  - {name: report, schedule: "30 1 * * *", timezone: UTC, need: 60, estimate: 50, deadline: 06:00, cores: 1, late: refuse}
  - {name: once, times: ["2026-03-02T04:00:00Z", "2026-04-02 04:00:00"], need: 5, deadline: 90m}
  - {name: whenever, schedule: "@daily", need: 1}
`), utcOnly)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range jobs {
		for _, at := range j.Starts(start, start.AddDate(0, 0, 1)) {
			got = append(got, fmt.Sprintf("%s at %s until %s needs %v, says %v, cores %v, late %q", j.Name,
				at.Format("15:04"), j.Deadline(at).Format("15:04"), j.Need, j.Estimate, j.Cores, j.Late))
		}
	}
	want := []string{
		`report at 01:30 until 06:00 needs 60, says 50, cores 1, late "refuse"`,
		`once at 04:00 until 05:30 needs 5, says 0, cores 0, late ""`,
		`whenever at 00:00 until 00:00 needs 1, says 0, cores 0, late ""`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !jobs[2].Deadline(start).IsZero() {
		t.Error("a job without a deadline has one")
	}
	for text, fault := range map[string]string{
		"":        "0 jobs",
		"jobs: 3": "",
		"jobs: [{name: a, schedule: '@daily', ned: 3}]":                                   "ned",
		"jobs: [{name: a, schedule: '@daily'}]":                                           "need is missing",
		"jobs: [{name: a, need: 3}]":                                                      "schedule or times",
		"jobs: [{name: a, need: 3, schedule: '@daily', times: ['2026-03-02']}]":           "schedule or times",
		"jobs: [{name: a, need: 3, times: [soon]}]":                                       `"soon" is not a time`,
		"jobs: [{name: a, need: 3, schedule: '@daily', timezone: Mars/Base}]":             "Mars/Base",
		"jobs: [{name: a, need: 3, schedule: '@daily', deadline: never}]":                 "neither a span",
		"jobs: [{name: a, need: 3, schedule: '@daily', deadline: -1h}]":                   "not after the start",
		"jobs: [{name: 'a b', need: 3, schedule: '@daily'}]":                              "without spaces",
		"jobs: [{name: a, need: -3, schedule: '@daily'}]":                                 "need must be",
		"jobs: [{name: a, need: 3, estimate: -3, schedule: '@daily'}]":                    "estimate: need must be",
		"jobs: [{name: a, need: 3, schedule: '@daily', late: perhaps}]":                   "late must be",
		"jobs: [{name: a, need: 3, schedule: '99 * * * *'}]":                              "minute",
		"jobs: [{name: a, schedule: '@daily'}, {name: b, need: 1, schedule: '@daily x'}]": "job 2",
		"jobs: [{name: a, need: .nan, schedule: '@daily'}]":                               "must be",
		"jobs: " + strings.Repeat("[", 200_000):                                           "more than 100 brackets",
	} {
		if _, err := ReadJobs([]byte(text), utcOnly); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v, want an error about %q", text, err, fault)
		}
	}
}

func FuzzReadJobs(f *testing.F) {
	f.Add([]byte("jobs: [{name: a, need: 3, schedule: '*/5 1-3 * * mon', deadline: 06:00}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		jobs, err := ReadJobs(text, utcOnly)
		if err != nil {
			return
		}
		for _, j := range jobs {
			for _, at := range j.Starts(start, start.AddDate(0, 0, 2)) {
				if end := j.Deadline(at); !end.IsZero() && !end.After(at) {
					t.Fatalf("%s at %v must end at %v", j.Name, at, end)
				}
			}
		}
	})
}
