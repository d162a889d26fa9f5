package rehearsal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/yamlmap"
)

// Job is a batch that comes again and again.
type Job struct {
	Name string
	// Starts says when it would start if nothing held it back.
	Starts func(from, to time.Time) []time.Time
	// Need is the credits that a run truly takes, Estimate what it declares; 0 is nothing.
	Need     float64
	Estimate float64
	// Cores is the most vCPUs that it uses at once; 0 is all.
	Cores float64
	// Deadline returns when a run must have ended; zero means at any time.
	Deadline func(start time.Time) time.Time
	Late     gate.Late
}

// jobText is a job in the file.
type jobText struct {
	Name     string   `yaml:"name"`
	Schedule string   `yaml:"schedule"`
	Timezone string   `yaml:"timezone"`
	Times    []string `yaml:"times"`
	Need     float64  `yaml:"need"`
	Estimate float64  `yaml:"estimate"`
	Deadline string   `yaml:"deadline"`
	Cores    float64  `yaml:"cores"`
	Late     string   `yaml:"late"`
}

const (
	maxJobsFile = 1 << 20
	maxJobs     = 1000
)

// ReadJobs reads the jobs of a YAML file:
//
//	jobs:
//	  - name: report
//	    schedule: "30 1 * * *"   # cron; or times: [2026-03-02T01:30:00Z]
//	    timezone: Asia/Tokyo     # UTC if absent
//	    need: 60                 # credits that a run truly takes
//	    estimate: 50             # what it declares; nothing if absent
//	    deadline: 6h             # after the start, or a time of day: "06:00"
//	    cores: 1                 # most vCPUs at once; all if absent
//	    late: refuse             # or run, if it cannot be in time; run if absent
//
// The zones are looked up by zone, which time.LoadLocation is. All that is wrong is in the error.
func ReadJobs(text []byte, zone func(string) (*time.Location, error)) ([]Job, error) {
	if len(text) > maxJobsFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxJobsFile)
	}
	if err := yamlmap.Bounded(text); err != nil {
		return nil, err
	}
	var file struct {
		Jobs []jobText `yaml:"jobs"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimSpace(err.Error()))
	}
	if len(file.Jobs) == 0 || len(file.Jobs) > maxJobs {
		return nil, fmt.Errorf("it has %d jobs; write 1 to %d in the list jobs", len(file.Jobs), maxJobs)
	}
	var jobs []Job
	var errs []error
	for i, t := range file.Jobs {
		j, err := t.job(zone)
		if err != nil {
			errs = append(errs, fmt.Errorf("job %d (%.40q): %w", i+1, t.Name, err))
		}
		jobs = append(jobs, j)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs[:min(len(errs), 8)]...)
	}
	return jobs, nil
}

func (t jobText) job(zone func(string) (*time.Location, error)) (Job, error) {
	j := Job{Name: t.Name, Need: t.Need, Estimate: t.Estimate, Cores: t.Cores, Late: gate.Late(t.Late)}
	// The gate itself says what it takes.
	asked := gate.Asked{Job: gate.Job{ID: t.Name, Name: t.Name, Need: t.Need, Cores: t.Cores, Late: j.Late}, State: gate.Waiting}
	if err := asked.Validate(); err != nil {
		return j, err
	}
	asked.Need = t.Estimate
	if err := asked.Validate(); err != nil {
		return j, fmt.Errorf("estimate: %w", err)
	}
	if t.Need == 0 {
		return j, errors.New("need is missing: the credits (minutes of one vCPU) that a run takes")
	}
	loc := time.UTC
	if t.Timezone != "" {
		var err error
		if loc, err = zone(t.Timezone); err != nil {
			return j, fmt.Errorf("timezone %.60q is not known; write one such as Asia/Tokyo", t.Timezone)
		}
	}
	var err error
	switch {
	case (t.Schedule == "") == (len(t.Times) == 0):
		return j, errors.New("give either schedule or times")
	case t.Schedule != "":
		s, err := parseSchedule(t.Schedule, loc)
		if err != nil {
			return j, fmt.Errorf("schedule: %w", err)
		}
		j.Starts = s.Between
	default:
		if j.Starts, err = atTimes(t.Times); err != nil {
			return j, err
		}
	}
	j.Deadline, err = deadline(t.Deadline, loc)
	return j, err
}

func atTimes(texts []string) (func(from, to time.Time) []time.Time, error) {
	var all []time.Time
	for _, text := range texts {
		at, ok := pointTime(text)
		if !ok {
			return nil, fmt.Errorf("times: %.40q is not a time such as 2026-03-02T01:30:00Z", text)
		}
		all = append(all, at)
	}
	return func(from, to time.Time) []time.Time {
		return slices.DeleteFunc(slices.Clone(all), func(t time.Time) bool { return t.Before(from) || !t.Before(to) })
	}, nil
}

// deadline reads a span after the start, or the next time of day.
func deadline(text string, loc *time.Location) (func(time.Time) time.Time, error) {
	if text == "" {
		return func(time.Time) time.Time { return time.Time{} }, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d <= 0 {
			return nil, fmt.Errorf("deadline %s is not after the start", text)
		}
		return func(start time.Time) time.Time { return start.Add(d) }, nil
	}
	if _, ok := gate.NextTimeOfDay(text, time.Time{}); !ok {
		return nil, fmt.Errorf("deadline %.40q is neither a span such as 6h nor a time of day such as 06:00", text)
	}
	return func(start time.Time) time.Time {
		end, _ := gate.NextTimeOfDay(text, start.In(loc))
		return end.UTC()
	}, nil
}
