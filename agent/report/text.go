package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Text renders the status for people: one line a subject, then what is wrong and
// what to do about it. It is made to be read in ten seconds.
func (s Status) Text() string {
	var b strings.Builder
	b.WriteString(s.title() + "\n\n")
	for _, row := range s.State() {
		fmt.Fprintf(&b, "  %-9s %s\n", row.Name, strings.ReplaceAll(row.Text, "\n", fmt.Sprintf("\n%12s", "")))
	}
	b.WriteString("\n" + s.problemsText())
	return b.String()
}

func (s Status) title() string {
	return fmt.Sprintf("nagaya %s on %s, up %s", s.Version, s.machine(), short(s.At.Sub(s.StartedAt)))
}

// State has one line for each subject; that of several addresses has a line feed before each.
func (s Status) State() []Line {
	return []Line{
		{"address", s.addressLine()},
		{"tasks", s.tasksLine()},
		{"routes", s.routesLine()},
		{"nginx", s.nginxLine()},
		{"credits", s.creditLine()},
		{"gate", s.gateLine()},
	}
}

// Line is the status in one line, for systemd.
func (s Status) Line() string {
	live, hosts := s.LiveSites()
	line := fmt.Sprintf("%d of %s live", live, problem.Counted(hosts, "host"))
	if s.Nginx.Behind() {
		line += ", nginx serves an older table"
	} else if !s.Nginx.Running && hosts > 0 {
		line += ", nginx does not run"
	}
	if word := s.addressWord(); word != "" {
		line += ", " + word
	}
	if s.Credit.Known {
		line += fmt.Sprintf(", %.0f credits", s.Credit.Balance)
	}
	line += ", gate " + s.gateWord()
	if severe, all := s.Severe(); all > 0 {
		line += fmt.Sprintf(", %s (%d severe)", problem.Counted(all, "problem"), severe)
	}
	return line
}

func (s Status) machine() string {
	in := s.Identity.Instance
	if !in.Known {
		return s.Identity.Host.Name + " (no instance metadata)"
	}
	text := fmt.Sprintf("%s (%s, %s)", in.ID, in.Type, in.Zone)
	if s.Identity.ECS.Known {
		text += ", cluster " + s.Identity.ECS.Cluster
	}
	if why := s.Identity.WhyLeaving(); why != "" {
		text += ", LEAVING: " + why
	}
	return text
}

// addressWord is in few words whether the claimed addresses are here.
func (s Status) addressWord() string {
	a := s.Address
	switch n := len(a.Claims); {
	case n > 1:
		return fmt.Sprintf("holds %d of %d addresses", heldOf(a.Claims), n)
	case a.Claim == "":
		return ""
	case a.Held():
		return "holds " + a.Address.PublicIP.String()
	case !a.Known:
		return "address unknown"
	}
	return "address elsewhere"
}

func heldOf(claims []address.ClaimReport) int {
	held := 0
	for _, c := range claims {
		if c.Held() {
			held++
		}
	}
	return held
}

func (s Status) addressLine() string {
	var all []string
	for _, c := range s.Address.All() {
		all = append(all, s.claimLine(c))
	}
	switch n := len(all); n {
	case 0:
		return "none is claimed (address.claim)"
	case 1:
		return all[0]
	default:
		return fmt.Sprintf("%d of %d are held here\n", heldOf(s.Address.Claims), n) + strings.Join(all, "\n")
	}
}

func (s Status) claimLine(a address.ClaimReport) string {
	switch {
	case !a.Known:
		return "the holder of " + a.Claim + " is not known yet"
	case a.Held() && a.Released:
		return fmt.Sprintf("%s is held here since %s, released: a standby may take it", a.Address.PublicIP, s.clock(a.Since))
	case a.Held():
		return fmt.Sprintf("%s is held here since %s (policy %s)", a.Address.PublicIP, s.clock(a.Since), a.Policy)
	}
	return fmt.Sprintf("%s is held by %s: %s", a.Address.PublicIP, a.Holder, a.Decision.Reason)
}

func (s Status) tasksLine() string {
	t := s.Tasks
	if !t.Complete {
		return "Docker has not been listed yet"
	}
	line := fmt.Sprintf("%d running", t.Running)
	switch {
	case t.Batches == 1:
		line += ", 1 of them a batch"
	case t.Batches > 1:
		line += fmt.Sprintf(", %d of them batches", t.Batches)
	}
	line += fmt.Sprintf("; Docker listed %s ago", short(s.At.Sub(t.At)))
	switch {
	case t.ECSAgent:
		line += "; the ECS agent answers"
	case s.Identity.ECS.Known: // it has answered before
		line += "; the ECS agent does not answer"
	}
	return line
}

func (s Status) routesLine() string {
	live, hosts := s.LiveSites()
	servers, tls := 0, 0
	for _, site := range s.Routes.Sites {
		if site.TLS {
			tls++
		}
		for _, l := range site.Locations {
			servers += len(s.Routes.Pools[site.PoolKey(l)].Servers)
		}
	}
	line := fmt.Sprintf("%d of %s live on %s, %d with HTTPS", live, problem.Counted(hosts, "host"), problem.Counted(servers, "server"), tls)
	if n := len(s.Nginx.Quarantined); n > 0 {
		line += fmt.Sprintf(", %d in quarantine", n)
	}
	switch {
	case hosts == 0:
	case s.Nginx.Behind():
		line += "; nginx serves an older table, so what has changed since is not in force"
	case !s.Nginx.Running:
		line += "; none is served, because nginx does not run"
	}
	return line
}

func (s Status) nginxLine() string {
	n := s.Nginx
	if !n.Running {
		if n.LastError != "" {
			return "not running: " + n.LastError
		}
		return "not running yet"
	}
	line := fmt.Sprintf("%s serves generation %s", n.Version, n.Generation)
	if !n.LoadedAt.IsZero() {
		line += fmt.Sprintf(", loaded at %s, %s since the agent started", s.clock(n.LoadedAt), problem.Counted(n.Reloads, "generation"))
	}
	switch {
	case n.Behind():
		line += "; a newer one could not be loaded, and is tried again"
	case !n.Settled:
		line += "; reload pending"
	}
	return line
}

func (s Status) creditLine() string {
	c := s.Credit
	switch {
	case c.Type == "":
		return "the instance type is not known"
	case !c.Burstable:
		return c.Type + " has no CPU credits"
	case !c.Known:
		return "the balance is not known yet"
	}
	line := fmt.Sprintf("%.1f of %.0f (±%.1f), %s; earns %g an hour; last hour: services %.1f, batches %.1f credits",
		c.Balance, c.Max, c.ErrorBar, c.Mode, c.EarnPerHour, c.SpentLastHour.Services, c.SpentLastHour.Batch)
	if c.Surplus > 0 {
		line += fmt.Sprintf("; %.1f borrowed", c.Surplus)
	}
	return line
}

func (s Status) problemsText() string {
	if len(s.Problems) == 0 {
		return "no problems\n"
	}
	var b strings.Builder
	b.WriteString("problems\n")
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "  %-8s %s: %s\n           %s, for %s\n           → %s\n", markOf(p), p.Subject, p.Text, p.Code, short(s.At.Sub(p.Since)), p.Hint)
	}
	return b.String()
}

func markOf(p problem.Problem) string {
	if p.Severity == problem.Error {
		return "ERROR"
	}
	return "warning"
}

// clock writes a time of the last day as hours and minutes, an older one as a date.
func (s Status) clock(t time.Time) string {
	if s.At.Sub(t) < 24*time.Hour {
		return t.Local().Format("15:04:05")
	}
	return t.Local().Format("2006-01-02 15:04")
}

// short writes a duration in its one or two largest units.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func (s Status) gateWord() string {
	if s.Gate.Decision.At.IsZero() {
		return "undecided"
	}
	return gate.Word(s.Gate.Decision.Open)
}

func (s Status) gateLine() string {
	d := s.Gate.Decision
	if d.At.IsZero() {
		return "undecided"
	}
	line := fmt.Sprintf("%s for %s: %s", gate.Word(d.Open), short(s.At.Sub(d.Since)), d.Reason)
	count := map[gate.Phase]int{}
	for _, j := range d.Jobs {
		count[j.Phase]++
	}
	for _, p := range []gate.Phase{gate.Waiting, gate.Admitted, gate.Running, gate.Refused} {
		if count[p] > 0 {
			line += fmt.Sprintf("; %d %s", count[p], p)
		}
	}
	return line
}
