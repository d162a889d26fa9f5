package certs

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Text is the report for people: a line for each certificate, by hosts. What is left is counted from now on.
func (r Report) Text(now time.Time) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tNAMES\tISSUER\tFROM\tKEY\tLEFT\tRENEWAL\tSTATE\tWHY")
	for _, e := range r.Entries {
		names := some(e.Names)
		if len(e.Names) == 1 && len(e.Hosts) == 1 && e.Names[0] == e.Hosts[0] {
			names = "same"
		}
		left, renewal := "-", "-"
		switch d := e.NotAfter.Sub(now); {
		case e.NotAfter.IsZero():
		case d <= 0:
			left = "none"
		case d < 2*day:
			left = fmt.Sprintf("%d h", int(d.Hours()))
		default:
			left = fmt.Sprintf("%d d", int(d/day))
		}
		switch {
		case e.Renewal.IsZero():
		case !e.Renewal.After(now):
			renewal = "due"
		default:
			renewal = e.Renewal.UTC().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", some(e.Hosts), names, or(e.Issuer), e.from(), or(string(e.KeyType)), left, renewal, e.State, or(e.Reason))
	}
	t.Flush()
	switch {
	case !r.On:
		b.WriteString("\nnothing is ordered: certs.acme.email is not set\n")
	case !r.StoreRead:
		fmt.Fprintf(&b, "\nthe store (%s) has not been read yet\n", r.Store)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// from is where a certificate is from.
func (e Entry) from() string {
	switch {
	case e.Source == "file":
		return "file"
	case e.Directory == "":
		return e.Source
	}
	return e.Source + " " + nameOf(e.Directory)
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return problem.Printable(text, 300)
}

// some are the first of several names, and how many there are more.
func some(all []string) string {
	switch n := len(all); n {
	case 0:
		return "-"
	case 1, 2:
		return or(strings.Join(all, ","))
	default:
		return or(fmt.Sprintf("%s,%s +%d", all[0], all[1], n-2))
	}
}
