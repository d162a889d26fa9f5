package credit

import (
	"math"
	"time"
)

// Profile is what the services are known to need by hour of the day and of the
// week, in UTC. It forgets exponentially, so that a change of habit is learned in
// days. The zero Profile has seen nothing and expects the worst that an instance
// can bear without limit. It is plain data and may be persisted as JSON.
type Profile struct {
	All  Slot      `json:"all"`
	Day  [24]Slot  `json:"day"`
	Week [168]Slot `json:"week"`
	// Hour is the clock hour that is being gathered, with the credits that the
	// services spent in it and the minutes that were seen.
	Hour    time.Time `json:"hour,omitzero"`
	Credits float64   `json:"credits,omitempty"`
	Minutes float64   `json:"minutes,omitempty"`
	// Recent is the demand of the last half hour or so in vCPUs, as of RecentAt.
	Recent   float64   `json:"recent,omitempty"`
	RecentAt time.Time `json:"recent_at,omitzero"`
	// Lasting is by how many vCPUs the recent hours were above what had been learned, as of LastingAt: what has lasted
	// for hours will not be over in one.
	Lasting   float64   `json:"lasting,omitempty"`
	LastingAt time.Time `json:"lasting_at,omitzero"`
	// OfDay and OfWeek are how alike the hours of a slot of Day and of Week were.
	OfDay  Likeness `json:"of_day,omitzero"`
	OfWeek Likeness `json:"of_week,omitzero"`
}

// Slot is the remembered hourly means of one kind of hour.
type Slot struct {
	// Weight is the number of hours seen, faded by their age; Sum their demand in vCPUs.
	Weight float64 `json:"weight,omitempty"`
	Sum    float64 `json:"sum,omitempty"`
	// Bins is the same weight by demand: bin i ends at binLow·binRatioⁱ vCPUs.
	Bins [binCount]float64 `json:"bins,omitzero"`
	At   time.Time         `json:"at,omitzero"`
}

// Likeness is how well hours were predicted by the earlier ones of their own slot, and by the wider slot. The zero Likeness has
// compared nothing.
type Likeness struct {
	// Weight is the number of hours compared, faded by their age.
	Weight float64 `json:"weight,omitempty"`
	// Within and Wider are sums of squares, in vCPUs squared: of how far hours were from others of their slot, and from the wider
	// slot's mean.
	Within float64   `json:"within,omitempty"`
	Wider  float64   `json:"wider,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// Demand is what the services are expected to use, in vCPUs.
type Demand struct {
	Mean float64 `json:"mean"`
	// High is the demand that is exceeded in one hour out of ten.
	High float64 `json:"high"`
	// More is the part of Mean that is above what was learned of such hours: the services need it at present, and it fades.
	More float64 `json:"more,omitempty"`
}

const (
	binLow       = 0.001
	binRatio     = 1.3
	binCount     = 40 // up to 36 vCPUs, more than any T type has
	highQuantile = 0.9

	halfLifeAll    = 3 * 24 * time.Hour
	halfLifeDay    = 7 * 24 * time.Hour
	halfLifeWeek   = 28 * 24 * time.Hour
	halfLifeRecent = 30 * time.Minute
	// fadeRecent is how fast a demand unlike the learned one is expected to pass.
	fadeRecent = 2 * time.Hour
	// What has lasted is gathered and fades in these.
	halfLifeLasting = 6 * time.Hour
	fadeLasting     = 24 * time.Hour
	// knownHours is how many hours must have been seen for one to be called unusual.
	knownHours = 12.0
	// trust is the number of hours seen at which a slot counts as much as the wider one above it. It is less where the
	// hours of a slot are known to be alike: then it counts as much as trustHours that were compared.
	trust      = 2.0
	trustHours = 1.0
	// Weeks are called alike if so many hours differ from earlier ones by less than this part of the baseline, in the square mean.
	regularHours, regularMiss = 20.0, 0.25
	// enough is how many minutes of an hour must have been seen for it to count.
	enough = 30.0
)

// Observe adds to the profile that the services spent some credits between from and to.
// Spans must come in order. One of an earlier hour, after the clock was set back, starts that hour over.
func (p *Profile) Observe(from, to time.Time, credits float64) {
	minutes := to.Sub(from).Minutes()
	if minutes <= 0 || credits < 0 || math.IsNaN(credits) {
		return
	}
	rate := credits / minutes
	p.observeRecent(to, minutes, rate)
	for from.Before(to) {
		hour := from.UTC().Truncate(time.Hour)
		if hour.Before(p.Hour) {
			p.Credits, p.Minutes = 0, 0
		} else if hour.After(p.Hour) {
			p.closeHour()
		}
		p.Hour = hour
		end := earlier(hour.Add(time.Hour), to)
		m := end.Sub(from).Minutes()
		p.Minutes += m
		p.Credits += rate * m
		from = end
	}
}

func (p *Profile) observeRecent(at time.Time, minutes, rate float64) {
	keep := fade(time.Duration(minutes*float64(time.Minute)), halfLifeRecent)
	if p.RecentAt.IsZero() || at.Sub(p.RecentAt) > fadeRecent {
		keep = 0
	}
	p.Recent = keep*p.Recent + (1-keep)*rate
	p.RecentAt = at
}

// Steady is by how many vCPUs the services need more than was learned, for hours and still so. The forecast lets it fade.
func (p *Profile) Steady(now time.Time, s Spec) float64 {
	recent := p.Recent - p.learned(p.RecentAt, s).Mean
	return math.Max(0, math.Min(recent, p.Lasting*fade(now.Sub(p.LastingAt), halfLifeLasting)))
}

// LongRun is the mean demand of the hours of a week, as far as they were learned, and how many days were: one counts half after four weeks.
func (p *Profile) LongRun(s Spec) (mean, days float64) {
	all := p.All.mean(s.Baseline()/2, trust)
	ofDay, ofWeek := p.OfDay.trust(), p.OfWeek.trust()
	for hour := range p.Week {
		mean += p.Week[hour].mean(p.Day[hour%24].mean(all, ofDay), ofWeek) / float64(len(p.Week))
		days += p.Week[hour].Weight / 24
	}
	return mean, days
}

// Regular reports whether weeks are known to be alike: a day's hours at least were compared with those of earlier weeks, from which they
// differed by little.
func (p *Profile) Regular(s Spec) bool {
	most := regularMiss * s.Baseline()
	return p.OfWeek.Weight >= regularHours && p.OfWeek.Within <= p.OfWeek.Weight*most*most
}

// mean is the slot's own, weighted with the wider one's, which counts as much as so many hours.
func (s *Slot) mean(wider, hours float64) float64 { return (s.Sum + hours*wider) / (s.Weight + hours) }

// trust is the number of hours seen at which a slot counts as much as the wider one: the variance within the slots, divided by
// that between them. It is positive, and at most what is assumed while nothing has been compared.
func (l *Likeness) trust() float64 {
	between := l.Wider - l.Within
	if l.Within >= trust*between {
		return trust
	}
	return (trustHours*trust + l.Weight*l.Within/between) / (trustHours + l.Weight)
}

// compare adds an hour that is not yet in its slot. The mean of few hours is wrong itself, which is not counted as a difference within
// the slot.
func (l *Likeness) compare(at time.Time, demand float64, slot, wider *Slot) {
	if slot.Weight == 0 {
		return
	}
	f := 1.0
	if !l.At.IsZero() {
		f = fade(at.Sub(l.At), halfLifeWeek)
	}
	within, other := demand-slot.Sum/slot.Weight, demand-wider.Sum/wider.Weight
	l.Weight = f*l.Weight + 1
	l.Within = f*l.Within + within*within*slot.Weight/(slot.Weight+1)
	l.Wider = f*l.Wider + other*other
	l.At = at
}

// closeHour files the gathered hour in its slots.
func (p *Profile) closeHour() {
	if p.Minutes >= enough {
		mean := p.Credits / p.Minutes
		p.observeLasting(mean)
		day, week := &p.Day[p.Hour.Hour()], &p.Week[weekHour(p.Hour)]
		p.OfDay.compare(p.Hour, mean, day, &p.All)
		p.OfWeek.compare(p.Hour, mean, week, day)
		p.All.add(p.Hour, mean, halfLifeAll)
		day.add(p.Hour, mean, halfLifeDay)
		week.add(p.Hour, mean, halfLifeWeek)
	}
	p.Credits, p.Minutes = 0, 0
}

// observeLasting compares the gathered hour with what was expected of it.
func (p *Profile) observeLasting(mean float64) {
	if p.All.Weight < knownHours {
		return
	}
	end := p.Hour.Add(time.Hour)
	keep := fade(end.Sub(p.LastingAt), halfLifeLasting)
	if p.LastingAt.IsZero() {
		keep = fade(time.Hour, halfLifeLasting)
	}
	p.Lasting = keep*p.Lasting + (1-keep)*(mean-p.learned(p.Hour, Spec{}).Mean)
	p.LastingAt = end
}

// At returns the expected demand at a time on a type. Where little has been seen it leans on
// the hours of other days, then on all hours, and the more the less alike the hours of a slot were, then on the assumption that
// the services need half the baseline on average and all of it on a bad day.
func (p *Profile) At(t time.Time, s Spec) Demand {
	usual := p.learned(t, s)
	d := usual
	if extra := p.Recent - p.learned(p.RecentAt, s).Mean; !p.RecentAt.IsZero() && extra > 0 {
		extra *= fade(t.Sub(p.RecentAt), fadeRecent)
		d.Mean += extra
		d.High = math.Max(d.High, d.Mean)
	}
	if p.Lasting > 0 {
		extra := p.Lasting * fade(t.Sub(p.LastingAt), fadeLasting)
		d.Mean = math.Max(d.Mean, usual.Mean+extra)
		d.High = math.Max(d.High, usual.High+extra)
	}
	limit := float64(s.VCPUs)
	d = Demand{Mean: math.Min(d.Mean, limit), High: math.Min(d.High, limit)}
	d.More = math.Max(0, d.Mean-usual.Mean)
	return d
}

// over is the expected demand of a step that is an hour long at most: of the two clock hours that it is in, each for its part.
func (p *Profile) over(from, to time.Time, s Spec) Demand {
	edge := to.Truncate(time.Hour)
	if !edge.After(from) {
		return p.At(from.Add(to.Sub(from)/2), s)
	}
	a, b := p.At(from.Add(edge.Sub(from)/2), s), p.At(edge.Add(to.Sub(edge)/2), s)
	x := float64(edge.Sub(from)) / float64(to.Sub(from))
	return Demand{Mean: x*a.Mean + (1-x)*b.Mean, High: x*a.High + (1-x)*b.High, More: x*a.More + (1-x)*b.More}
}

func (p *Profile) learned(t time.Time, s Spec) Demand {
	t = t.UTC()
	all := p.All.blend(Demand{Mean: s.Baseline() / 2, High: s.Baseline()}, trust)
	day := p.Day[t.Hour()].blend(all, p.OfDay.trust())
	return p.Week[weekHour(t)].blend(day, p.OfWeek.trust())
}

func (s *Slot) add(at time.Time, demand float64, halfLife time.Duration) {
	if !s.At.IsZero() {
		f := fade(at.Sub(s.At), halfLife)
		s.Weight *= f
		s.Sum *= f
		for i := range s.Bins {
			s.Bins[i] *= f
		}
	}
	i := 0
	if demand > binLow {
		i = min(int(math.Ceil(math.Log(demand/binLow)/math.Log(binRatio))), binCount-1)
	}
	s.Bins[i]++
	s.Weight++
	s.Sum += demand
	s.At = at
}

// blend returns the slot's own demand, weighted with the wider one, which counts as much as so many hours: a positive number.
func (s *Slot) blend(wider Demand, hours float64) Demand {
	share := s.Weight / (s.Weight + hours)
	if share == 0 {
		return wider
	}
	d := Demand{
		Mean: s.mean(wider.Mean, hours),
		High: share*s.quantile(highQuantile) + (1-share)*wider.High,
	}
	d.High = math.Max(d.High, d.Mean)
	return d
}

// quantile interpolates within the bin that holds it.
func (s *Slot) quantile(q float64) float64 {
	var total float64
	for _, w := range s.Bins {
		total += w
	}
	want, seen := q*total, 0.0
	for i, w := range s.Bins {
		if w > 0 && seen+w >= want {
			high := binLow * math.Pow(binRatio, float64(i))
			low := high / binRatio
			if i == 0 {
				low = 0
			}
			return low + (high-low)*(want-seen)/w
		}
		seen += w
	}
	return binLow * math.Pow(binRatio, float64(len(s.Bins)))
}

// fade is what is left of 1 after an age; never more than 1.
func fade(age, halfLife time.Duration) float64 {
	return math.Min(1, math.Exp2(-float64(age)/float64(halfLife)))
}

func weekHour(t time.Time) int { return int(t.Weekday())*24 + t.Hour() }
