package keep

import (
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Past reads what is kept in a directory, for whoever shows it. Where nothing was kept yet there is nothing.
type Past string

// Credits are the records between from and to, in at most that many spans.
func (p Past) Credits(from, to time.Time, most int) (report.Series, error) {
	all, err := Read(string(p), from, to)
	return history.Series(all, from, to, most), err
}

// Hosts are what hosts have served between from and to: all together in at most mostOfAll spans, each in at most most.
func (p Past) Hosts(from, to time.Time, mostOfAll, most int) (report.Served, error) {
	hosts, all, step, err := readServed(string(p), from, to)
	if err != nil {
		return report.Served{}, err
	}
	return hosts.Series(step, all, from, to, mostOfAll, most), nil
}

// Events are what happened between from and to, the oldest first, of one group or of all (""), but no more than most: the newest.
func (p Past) Events(from, to time.Time, group string, most int) (events []report.Event, err error) {
	all, err := ReadEvents(string(p), from, to)
	all = slices.DeleteFunc(all, func(e history.Event) bool { return group != "" && e.Group() != group })
	for _, e := range all[max(0, len(all)-most):] {
		events = append(events, e.Shown())
	}
	return events, err
}
