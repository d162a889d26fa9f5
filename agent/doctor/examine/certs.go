package examine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Orders are the parts of the program that order certificates. Each call ends with its context, after
// 8 s at the latest.
type Orders struct {
	// Offer asks the CA of a directory for its profiles, and whether it wants a binding; Bound tells
	// whether the configuration has one for it.
	Offer func(ctx context.Context, c config.Config, directory string) (profiles []string, binding bool, err error)
	Bound func(c config.Config, directory string) (bool, error)
	// Store opens the store of certificates.
	Store func(config.Config) Store
	// Zone tries what names of a hosted zone need, NAME=ID, without a change.
	Zone func(ctx context.Context, c config.Config, zone string) error
	// Hosts returns the hosts that get certificates here, as the running agent knows them; ErrNoAgent
	// where none runs.
	Hosts func(context.Context) ([]string, error)
}

// Store is that of certificates.
type Store interface {
	List(ctx context.Context, prefix string) (map[string]string, error)
	// Check writes an object of its own, and reports whether the store obeys conditions.
	Check(ctx context.Context) error
}

// orders checks what certificates need that are ordered, where they are.
func (x *examination) orders(ctx context.Context) {
	if x.config.Certs.ACME.Email == "" {
		return
	}
	for _, directory := range x.config.Certs.ACME.Directories {
		x.limited(ctx, func(ctx context.Context) { x.ca(ctx, directory) })
	}
	x.limited(ctx, x.store)
	for _, zone := range x.config.Certs.ACME.Zones {
		x.limited(ctx, func(ctx context.Context) { x.zone(ctx, zone) })
	}
	x.limited(ctx, x.hosts)
}

// ca asks a CA whether it has what is set.
func (x *examination) ca(ctx context.Context, directory string) {
	const check = "acme-ca"
	profiles, binding, err := x.Orders.Offer(ctx, x.config, directory)
	if err != nil {
		x.Add(doctor.Bad(check, bounded(err), "correct certs.acme.directory, or let the instance reach it over HTTPS; where it is a CA of your own, certs.acme.ca-file names its authorities"))
		return
	}
	bound, err := x.Orders.Bound(x.config, directory)
	wanted := x.config.Certs.ACME.Profile
	switch {
	case err != nil:
		x.Add(doctor.Bad(check, bounded(err), "correct certs.acme.eab-file"))
	case binding && !bound:
		x.Add(doctor.Bad(check, directory+" wants an external account binding", "put what the CA gave you into a file: DIRECTORY KEY-ID MAC-KEY, and name it in certs.acme.eab-file"))
	case wanted != "" && !slices.Contains(profiles, wanted):
		x.Add(doctor.Bad(check, fmt.Sprintf("%s does not offer the profile %s", directory, wanted), fmt.Sprintf("choose one of %.60q in certs.acme.profile, or leave it empty", profiles)))
	case wanted != "":
		x.Add(doctor.Good(check, "%s answers, and offers the profile %s", directory, wanted))
	default:
		x.Add(doctor.Good(check, "%s answers", directory))
	}
}

// store lists, reads and writes the store.
func (x *examination) store(ctx context.Context) {
	const check = "certs-store"
	s := x.Orders.Store(x.config)
	names, err := s.List(ctx, "certs/")
	if err == nil {
		err = s.Check(ctx)
	}
	where := x.config.Certs.Store
	switch known, ok := errors.AsType[*certs.StoreError](err); {
	case ok:
		x.Add(doctor.Bad(check, problem.Printable(known.Text, 300), known.Remedy))
	case err != nil:
		x.Add(doctor.Bad(check, bounded(err), "correct certs.store"))
	case where == "":
		x.Add(doctor.Doubtful(check, fmt.Sprintf("the store is on this instance's disk alone, so the next instance orders again what it has: %s", problem.Counted(len(names), "certificate")), "name a bucket or a directory of EFS in certs.store"))
	default:
		x.Add(doctor.Good(check, "%s can be read and written, and has %s", where, problem.Counted(len(names), "certificate")))
	}
}

// zone tries to change a hosted zone, without a change.
func (x *examination) zone(ctx context.Context, zone string) {
	const check = "dns-zone"
	switch err := x.Orders.Zone(ctx, x.config, zone); {
	case err == nil:
		x.Add(doctor.Good(check, "records of _acme-challenge in %s can be seen and changed", zone))
	case awserror.Denied(err):
		x.Add(doctor.Bad(check, bounded(err),
			"add the statements ProveNamesByRecords, SeeTheRecordsOfThisZone and SeeWhetherRecordsAreThere of packaging/iam-policy.json, with the zone's id, to the role's policy"))
	default:
		x.Add(doctor.Bad(check, bounded(err), "correct certs.acme.zones: the id is that of the public zone of this domain"))
	}
}

// hosts asks every host that gets a certificate for a file that only this instance has, as a CA does.
func (x *examination) hosts(ctx context.Context) {
	const check = "acme-host"
	hosts, err := x.Orders.Hosts(ctx)
	if err != nil || len(hosts) == 0 {
		return // the check agent says why
	}
	name := "nagaya-doctor-" + rand.Text()
	dir := filepath.Join(nginx.TokenDir(nginx.StateDir(x.config)), ".well-known", "acme-challenge")
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
		x.Add(doctor.Doubtful(check, "whether hosts lead here was not tried: "+bounded(err), "run this as root"))
		return
	}
	defer os.Remove(file)
	// Not by a proxy, and a redirect is no answer of this instance's.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return strings.HasPrefix(h, "*.") }) // by DNS alone
	hosts = hosts[:min(len(hosts), maxHosts)]
	whys := make([]string, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() { whys[i] = fetch(ctx, client, "http://"+host+"/.well-known/acme-challenge/"+name, name) })
	}
	all.Wait()
	good := 0
	for i, why := range whys {
		if why == "" {
			good++
			continue
		}
		x.Add(doctor.Doubtful(check, fmt.Sprintf("%s does not lead to this instance: %s", hosts[i], why),
			"let its DNS record name the Elastic IP and the security group let port 80 in; a name of a zone in certs.acme.zones needs neither, and another instance may have the address now"))
	}
	if good > 0 {
		x.Add(doctor.Good(check, "hosts that get certificates, lead here and answer at port 80: %d", good))
	}
}

// maxHosts bounds how many hosts are asked.
const maxHosts = 100

// fetch says why a URL does not have the text; empty if it has.
func fetch(ctx context.Context, client *http.Client, url, text string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return bounded(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return bounded(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	switch {
	case err != nil:
		return bounded(err)
	case resp.StatusCode != http.StatusOK || string(body) != text:
		return fmt.Sprintf("another server answers %d, %s", resp.StatusCode, problem.Quoted(resp.Header.Get("Server")))
	}
	return ""
}
