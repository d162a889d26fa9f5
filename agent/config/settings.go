package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Default returns the configuration of an agent without any setting.
func Default() (c Config) {
	for _, s := range Settings {
		if err := s.Set(&c, fromText(s, s.Default, "").Values); err != nil {
			panic(err) // the table is wrong
		}
	}
	return c
}

// filterKeys are those of Docker's filters that depend neither on the state of a container
// nor on other containers.
const filterKeys = "ancestor, expose, id, label, name, network, publish, volume"

// Settings is the table, in the order in which it is shown.
var Settings = []Setting{
	one("log-level", "info", func(c *Config) *string { return &c.LogLevel }, word("debug", "info", "warn", "error"),
		"Least severe level that is logged.").byTag(),
	one("local-address", "", func(c *Config) *netip.Addr { return &c.LocalAddr },
		kind[netip.Addr]{allowed: "an address of this host", parse: reading(netip.ParseAddr, "is not an IP address"), format: netip.Addr.String}.orEmpty("automatic"),
		"Address at which this host reaches its own published container ports. Automatic: the primary private address."),
	flag("imds", "true", func(c *Config) *bool { return &c.IMDS },
		"Read EC2's instance metadata; false where there is none, e.g. outside EC2."),
	flag("nginx-proxy", "false", func(c *Config) *bool { return &c.NginxProxy },
		"Use the proxy-wide environment of nginx-proxy (DEFAULT_HOST, HTTP_PORT, ...), its directories below /etc/nginx and its defaults."),
	one("state-dir", "/var/lib/nagaya", func(c *Config) *string { return &c.StateDir }, absolute,
		"State that survives a reboot: nginx's generations, what was learnt about load."),
	one("run-dir", "/run/nagaya", func(c *Config) *string { return &c.RunDir }, absolute,
		"Sockets, pid file and the gate file."),
	one("log-dir", "/var/log/nagaya", func(c *Config) *string { return &c.LogDir }, absolute,
		"nginx's error and access log."),

	one("docker.host", "unix:///var/run/docker.sock", func(c *Config) *string { return &c.Docker.Host }, text("unix:///path or tcp://host:port", dockerForm.MatchString, "is neither unix:///path nor tcp://host:port"),
		"The Docker Engine to watch, without TLS; ssh:// is not spoken. Where nothing sets it, the environment's DOCKER_HOST does."),
	list("docker.filters", "", func(c *Config) *[]string { return &c.Docker.Filters }, text("KEY=VALUE of docker ps --filter, with one of the keys "+filterKeys, filterForm.MatchString, "is not a filter of Docker's as KEY=VALUE with one of the keys "+filterKeys),
		"Which containers may be routed, e.g. label=zone=public, or network=front; others are ignored. Empty is all."),
	one("ecs.agent-url", "http://127.0.0.1:51678", func(c *Config) *string { return &c.ECS.AgentURL }, text("an http URL", func(v string) bool { return strings.HasPrefix(v, "http://") }, "does not begin with http://").orEmpty("none"),
		"The ECS agent's introspection endpoint on this host."),
	flag("ecs.trust-labels", "false", func(c *Config) *bool { return &c.ECS.TrustLabels },
		"Believe labels that name a container's ECS task without the ECS agent's word, where it cannot be asked; whoever starts a container can set them."),

	list("address.claim", "", func(c *Config) *[]string { return &c.Address.Claim }, checkedText("eipalloc-…, a public IPv4 address or tag:KEY=VALUE, each with @ and a private IPv4 address or eni-… behind it if wanted; none claims nothing", claimText),
		"The Elastic IPs that belong to this instance, one or several; behind @ is where on this instance one goes, else the next free private address of the primary interface.").byTag(),
	one("address.policy", "takeover", func(c *Config) *string { return &c.Address.Policy }, word("wait", "standby", "takeover", "manual"),
		"Which holder an address may be taken from: none, only a free address (wait); one that is gone or leaving (standby); also an older instance (takeover); only on request (manual).").byTag(),
	list("address.ready", "", func(c *Config) *[]string { return &c.Address.Ready }, host("host names"),
		"Hosts that must have a live container here before an address is taken from a running instance; default: at least one host, and every host in the holder tag.").byTag(),
	one("address.unreachable", "0s", func(c *Config) *time.Duration { return &c.Address.Unreachable }, duration(0, 24*time.Hour),
		"How long a running holder that used to answer must have been silent on nginx's ports before standby and takeover take the address from it; 0 is never."),
	// The shortest pause with which a standby stays within 6,000 calls of EC2 a day,
	// and sees within 15 s that a holder is gone.
	one("address.every", "14.58s", func(c *Config) *time.Duration { return &c.Address.Every }, duration(time.Second, time.Hour),
		"How often EC2 is asked about the holder while another instance holds an address; a 24th as often, and at least every six minutes, while this one does.").byTag(),

	one("routes.body-size", "1m", func(c *Config) *int64 { return &c.Routes.BodySize }, size,
		"Largest request body of a route without the label nagaya.body-size."),
	one("routes.max-body-size", "1g", func(c *Config) *int64 { return &c.Routes.MaxBodySize }, size,
		"Largest request body that the label nagaya.body-size may ask for, where nginx stores it on the disk before the container gets it."),
	one("routes.timeout", "1m", func(c *Config) *time.Duration { return &c.Routes.Timeout }, duration(time.Second, 24*time.Hour),
		"How long nginx waits for a container between two reads or writes, without the label nagaya.timeout.").byTag(),
	one("routes.max-timeout", "1h", func(c *Config) *time.Duration { return &c.Routes.MaxTimeout }, duration(time.Second, 24*time.Hour),
		"Longest time that the label nagaya.timeout may ask for."),
	one("routes.max-keepalive", "64", func(c *Config) *int { return &c.Routes.MaxKeepalive }, whole(1, 1024),
		"Largest number of idle connections that nginx-proxy's label keepalive may ask for."),
	one("routes.max-per-family", "256", func(c *Config) *int { return &c.Routes.MaxOfFamily }, whole(1, 65535),
		"Largest number of paths of hosts, and of ports, that one task family, service or name may have, those in routes.grace included; beyond it the newest are left out."),
	one("routes.max", "2048", func(c *Config) *int { return &c.Routes.Max }, whole(1, 65535),
		"The same for all together; beyond it those that ask for most give way. A thousand take about 35 MB in nginx."),
	one("routes.grace", "10m", func(c *Config) *time.Duration { return &c.Routes.Grace }, duration(0, 7*24*time.Hour),
		"How long a host whose last container went away answers 503 before it is unknown.").byTag(),

	one("routes.dir", "/etc/nagaya/routes.d", func(c *Config) *string { return &c.Routes.Dir }, absolute,
		"Directory of YAML files with routes to what does not run in Docker."),
	one("routes.default-host", "", func(c *Config) *string { return &c.Routes.DefaultHost }, host("a host name").orEmpty("none"),
		"Default (catch-all) host: it also answers for names that no site has; none: they get an error."),
	flag("routes.share-hosts", "false", func(c *Config) *bool { return &c.Routes.ShareHosts },
		"Let containers with nginx-proxy's variables share a host, by path or as replicas, whatever their task family, service or name; false: the first keeps it."),
	flag("routes.expressions", "false", func(c *Config) *bool { return &c.Routes.Expressions },
		"Let containers with nginx-proxy's variables use regular expressions for paths, and for hosts that cannot be written as names; only those that cost nginx time linear in the request's length."),
	list("routes.open-wildcards", "", func(c *Config) *[]string { return &c.Routes.OpenWildcards }, text("wildcard hosts, as *.example.com", func(v string) bool { return pattern.Host(v) && v[0] == '*' }, "is no wildcard host"),
		"Wildcard hosts under which containers of any family may have names; under others only the family that has the wildcard may."),
	list("routes.shared-upstreams", "", func(c *Config) *[]string { return &c.Routes.SharedUpstreams }, text("WORD=FAMILY once for each family, as example=ecs:shop; WORD alone for all families", sharedForm.MatchString, "is neither WORD=FAMILY nor WORD; a family begins with ecs:, compose:, name: or file:"),
		"Words of the label nagaya.upstream by which containers of several families stand behind one host, and the families that may. With other words a container shares with its own family alone; the problem upstream-not-shared names it."),
	// ssh, Docker's API and the ECS agent.
	list("routes.reserved-ports", "22,2375,2376,51678,51679,51680", func(c *Config) *[]uint16 { return &c.Routes.ReservedPorts }, port,
		"Ports of this host that no label nagaya.listen may ask for, and no nagaya.port of a container in the host's network."),

	one("routes.https-method", "redirect", func(c *Config) *string { return &c.Routes.HTTPSMethod }, word("redirect", "noredirect", "nohttp", "nohttps"),
		"What a site with a certificate does about plain HTTP, unless its containers set it: redirect it to HTTPS, serve both, refuse it, or serve nothing else."),
	one("routes.hsts", "", func(c *Config) *string { return &c.Routes.HSTS }, hsts.orEmpty("automatic"),
		"Header Strict-Transport-Security of sites whose containers do not set it. Automatic: none, and a year for containers with nginx-proxy's variables."),
	one("routes.tls-policy", DefaultTLSPolicy, func(c *Config) *string { return &c.Routes.TLSPolicy }, word(policyNames()...),
		"Protocols and ciphers of sites whose containers do not set them."),
	one("routes.redirect-code", "308", func(c *Config) *string { return &c.Routes.RedirectCode }, word("301", "307", "308"),
		"Status code of the redirect to HTTPS for requests other than GET and HEAD; 301 loses the request's body.").byTag(),
	flag("routes.default-cert", "true", func(c *Config) *bool { return &c.Routes.DefaultCert },
		"Use the certificate named default for containers with nginx-proxy's variables that have no other."),
	flag("routes.http-without-cert", "true", func(c *Config) *bool { return &c.Routes.HTTPWithoutCert },
		"Serve a host over plain HTTP for which there is no certificate."),

	one("certs.dir", "/etc/nagaya/certs", func(c *Config) *string { return &c.Certs.Dir }, absolute,
		"Directory of certificates: NAME.crt with NAME.key, NAME.pem, or NAME/fullchain.pem with NAME/privkey.pem."),
	one("certs.store", "", func(c *Config) *string { return &c.Certs.Store }, text("a directory, or s3://BUCKET/PREFIX", isStore, "is neither an absolute path nor s3://BUCKET/PREFIX").orEmpty("a directory below state-dir"),
		"Where certificates from ACME are kept with their keys. Only one that outlives the instance, as a bucket of S3 or a directory of EFS, spares new orders when the instance is replaced."),
	one("certs.store-kms-key", "", func(c *Config) *string { return &c.Certs.StoreKey }, text("the id, alias or ARN of a KMS key", keyForm.MatchString, "is not the id, alias or ARN of a KMS key").orEmpty("the bucket's own encryption"),
		"KMS key by which S3 encrypts them."),
	one("certs.waiting", "plain", func(c *Config) *string { return &c.Certs.Waiting }, word("plain", "unavailable", "self-signed"),
		"What a site that is to get a certificate does until it has its first: serve plain HTTP, answer 503, or serve HTTPS with a certificate that says so in its name."),
	one("certs.acme.email", "", func(c *Config) *string { return &c.Certs.ACME.Email }, text("an email address", emailForm.MatchString, "is not an email address").orEmpty("none: no certificates are ordered"),
		"Orders certificates by ACME, with this address for the account; who sets it agrees to the terms of the CA."),
	list("certs.acme.directory", "https://acme-v02.api.letsencrypt.org/directory", func(c *Config) *[]string { return &c.Certs.ACME.Directories }, httpsURL,
		"ACME directories of the CAs to order from, the preferred one first; another is taken while that one fails."),
	one("certs.acme.staging", "", func(c *Config) *string { return &c.Certs.ACME.Staging }, httpsURL.orEmpty("automatic: that of Let's Encrypt for Let's Encrypt, else none"),
		"ACME directory at which a name that failed is tried first, so that failures do not use up the limits of the CA."),
	one("certs.acme.profile", "", func(c *Config) *string { return &c.Certs.ACME.Profile }, text("the name of a profile, such as tlsserver or shortlived", profileForm.MatchString, "is not the name of a profile").orEmpty("the CA's default"),
		"Profile of the certificates, where the CA has it."),
	one("certs.acme.key", "p256", func(c *Config) *string { return &c.Certs.ACME.Key }, word("p256", "rsa2048", "both"),
		"Key of the certificates: ECDSA, RSA for old clients, or a certificate of each."),
	one("certs.acme.ca-file", "", func(c *Config) *string { return &c.Certs.ACME.CAFile }, absolute.orEmpty("the system's"),
		"File of the authorities that the CA's own HTTPS is verified by, for a CA of your own."),
	one("certs.acme.eab-file", "", func(c *Config) *string { return &c.Certs.ACME.EABFile }, absolute.orEmpty("none"),
		"File of external account bindings, a line for each CA: DIRECTORY KEY-ID MAC-KEY."),
	list("certs.acme.zones", "", func(c *Config) *[]string { return &c.Certs.ACME.Zones }, text("NAME=ID of a hosted zone, such as example.com=Z0123456789ABC", zoneForm.MatchString, "is not NAME=ID of a hosted zone"),
		"Hosted zones of Route 53 in which names may be proven by TXT records of _acme-challenge, which wildcards, standbys and closed ports need."),
	flag("certs.acme.check-address", "true", func(c *Config) *bool { return &c.Certs.ACME.CheckAddress },
		"Order by HTTP only for a host whose public name leads to this instance; false where the names that the instance sees are not the public ones."),
	flag("certs.acme.ip", "false", func(c *Config) *bool { return &c.Certs.ACME.IP },
		"Order a certificate for the Elastic IP itself too, where the CA has profile shortlived. It is shown to whoever names no site, unless nginx.unserved-cert is set."),

	one("nginx.mode", "auto", func(c *Config) *string { return &c.Nginx.Mode }, word("auto", "exec", "service", "container"),
		"How nginx runs: as a child of the agent (exec), as a systemd unit (service), or in a container of its own (container); auto is service where systemd runs and nginx.unit is installed for this state-dir, else exec."),
	one("nginx.unit", "nagaya-nginx.service", func(c *Config) *string { return &c.Nginx.Unit }, text("the name of a systemd service", unitName.MatchString, "is not the name of a systemd service"),
		"Unit of nginx in mode service; it runs nginx with the main file below state-dir."),
	one("nginx.container-label", "nagaya.nginx", func(c *Config) *string { return &c.Nginx.ContainerLabel }, text("the name of a Docker label", labelName.MatchString, "is not the name of a Docker label"),
		"Label of nginx's container in mode container; com.github.nginx-proxy.nginx-proxy.nginx is understood too."),
	one("nginx.binary", "nginx", func(c *Config) *string { return &c.Nginx.Binary }, text("a name on PATH or an absolute path", func(v string) bool { return v != "" }, "is empty"),
		"The nginx to run; in mode service the unit names its own, in mode container it is looked for in the container."),
	one("nginx.http-port", "80", func(c *Config) *uint16 { return &c.Nginx.HTTPPort }, port, "Port of plain HTTP."),
	one("nginx.https-port", "443", func(c *Config) *uint16 { return &c.Nginx.HTTPSPort }, port, "Port of HTTPS."),
	flag("nginx.ipv6", "true", func(c *Config) *bool { return &c.Nginx.IPv6 }, "Listen on IPv6 too, where the host has it."),
	flag("nginx.http2", "true", func(c *Config) *bool { return &c.Nginx.HTTP2 }, "Offer HTTP/2 to HTTPS clients.").byTag(),
	flag("nginx.http3", "false", func(c *Config) *bool { return &c.Nginx.HTTP3 },
		"Offer HTTP/3 to HTTPS clients where the nginx can; UDP port nginx.https-port must be open, and each reload costs connections of HTTP/3.").byTag(),
	flag("nginx.proxy-protocol", "false", func(c *Config) *bool { return &c.Nginx.ProxyProtocol },
		"Expect the PROXY protocol from every client of the public ports, such as a load balancer in front; it is trusted from nginx.trusted-proxies."),
	one("nginx.upstream-ca", "/etc/ssl/certs/ca-certificates.crt", func(c *Config) *string { return &c.Nginx.UpstreamCA }, absolute,
		"File of the certificate authorities by which containers' certificates are verified, where the label nagaya.verify is set."),
	one("nginx.user", "auto", func(c *Config) *string { return &c.Nginx.User }, text("auto or a user name", userName.MatchString, "is not a user name"),
		"User of nginx's workers; auto is nginx or www-data, whichever exists, and in mode container the one that the image's nginx was built with."),
	one("nginx.access-log", "access.log", func(c *Config) *string { return &c.Nginx.AccessLog }, text("off, or a file name in log-dir", logName, "is neither off nor a plain file name"),
		"Where requests are logged."),
	one("nginx.default-root", "", func(c *Config) *string { return &c.Nginx.DefaultRoot }, text("a status such as 404, one with an address such as 301 https://example.com/, or none", rootForm.MatchString,
		"is neither none, nor a status, nor a status and an address").orEmpty("404 with a line of text"),
		"Answer to the paths of a host that no container serves, as nginx's directive return takes it; none leaves them to your snippets."),
	one("nginx.challenge-dir", "", func(c *Config) *string { return &c.Nginx.ChallengeDir }, absolute.orEmpty("none"),
		"Directory whose .well-known/acme-challenge/ is served over plain HTTP, before redirects, passwords and lists of clients, as certbot's --webroot needs it."),
	one("nginx.challenges", "all", func(c *Config) *string { return &c.Nginx.Challenges }, word("all", "redirected", "none"),
		"Sites at which it is, unless their containers say otherwise: all that do not refuse plain HTTP, those that redirect it to HTTPS, or none."),
	flag("nginx.challenge-unknown", "false", func(c *Config) *bool { return &c.Nginx.ChallengeUnknown },
		"Serve it for names of no site too."),
	flag("nginx.debug-endpoint", "false", func(c *Config) *bool { return &c.Nginx.DebugEndpoint },
		"Answer /nginx-proxy-debug of sites with their settings and containers as JSON, to whoever may see the path /, unless their containers say otherwise."),
	one("nginx.unserved-status", "", func(c *Config) *int { return &c.Nginx.UnservedStatus }, whole(400, 599).orEmpty("404 for a name of no site, 403 for plain HTTP where a site refuses it"),
		"Status for what no site serves: a name of none, and plain HTTP of one that is there over HTTPS only."),
	one("nginx.unserved-cert", "", func(c *Config) *string { return &c.Nginx.UnservedCert }, text("the name of a certificate", fileName.MatchString, "is not the name of a certificate").orEmpty("none"),
		"Certificate in certs.dir with which a name of no site gets that status over TLS; none, or one that is not there: its handshakes are refused."),
	flag("nginx.server-tokens", "false", func(c *Config) *bool { return &c.Nginx.ServerTokens },
		"Tell clients of sites nginx's version, unless their containers say otherwise."),
	one("nginx.log-format", "", func(c *Config) *string { return &c.Nginx.LogFormat }, text("json, or text with variables of nginx in it", func(string) bool { return true }, "").orEmpty("nagaya's own"),
		"The line that is logged for a request. In one of your own, $nagaya_log_request, _referer, _user_agent, _user, _host and _forwarded_for are what clients say, cut so that a line stays below 4 KiB; nginx's own variables may have tens of KiB."),
	one("nginx.log-escape", "default", func(c *Config) *string { return &c.Nginx.LogEscape }, word("default", "json", "none"),
		"How values from clients are escaped in a nginx.log-format of your own. With none a client can write lines of its own, by a line feed in $uri, and they are counted as requests."),
	flag("nginx.log-stdout", "false", func(c *Config) *bool { return &c.Nginx.LogStdout },
		"Log requests to stdout and nginx's errors to stderr too, as in a container; for nginx.mode exec."),
	one("nginx.snippet-dir", "/etc/nagaya/nginx", func(c *Config) *string { return &c.Nginx.SnippetDir }, absolute,
		"The operator's own nginx snippets: http.d/*.conf, stream.d/*.conf, site.d/HOST.conf, location.d/HOST.conf and location.d/HOST,PATH.conf."),
	one("nginx.vhost-dir", "", func(c *Config) *string { return &c.Nginx.VhostDir }, absolute.orEmpty("none"),
		"Directory of snippets that are named as nginx-proxy names them in vhost.d."),
	one("nginx.conf-dir", "", func(c *Config) *string { return &c.Nginx.ConfDir }, absolute.orEmpty("none"),
		"Directory of *.conf files for the http section, as nginx-proxy's conf.d."),
	one("nginx.htpasswd-dir", "/etc/nagaya/htpasswd", func(c *Config) *string { return &c.Nginx.HtpasswdDir }, absolute,
		"Password files that the label nagaya.auth may name."),
	flag("nginx.host-auth", "false", func(c *Config) *bool { return &c.Nginx.HostAuth },
		"Ask for a password wherever nginx.htpasswd-dir holds a file that is named like the host, as nginx-proxy does."),
	list("nginx.trusted-proxies", "", func(c *Config) *[]netip.Prefix { return &c.Nginx.TrustedProxies }, kind[netip.Prefix]{allowed: "addresses or CIDR ranges", parse: parsePrefix, format: netip.Prefix.String},
		"Clients whose X-Forwarded-* headers are trusted."),
	one("nginx.shutdown-timeout", "4m", func(c *Config) *time.Duration { return &c.Nginx.ShutdownTimeout }, duration(time.Second, 24*time.Hour),
		"How long a draining nginx worker may go on serving its clients after a reload.").byTag(),
	one("nginx.stop-timeout", "10s", func(c *Config) *time.Duration { return &c.Nginx.StopTimeout }, duration(time.Second, time.Hour),
		"How long nginx may finish open requests when it is stopped.").byTag(),
	one("nginx.max-draining", "16", func(c *Config) *int { return &c.Nginx.MaxDraining }, whole(1, 1024),
		"Largest number of draining nginx workers, which still serve their clients after a reload; beyond it the oldest are terminated.").byTag(),
	flag("nginx.stop-on-exit", "true", func(c *Config) *bool { return &c.Nginx.StopOnExit },
		"Stop nginx when the agent is stopped; false leaves it serving for the next agent. In the modes service and container nginx is never stopped."),

	one("credit.every", "15s", func(c *Config) *time.Duration { return &c.Credit.Every }, duration(time.Second, time.Minute),
		"How often the use of the processors is measured.").byTag(),
	one("credit.cloudwatch", "5m", func(c *Config) *time.Duration { return &c.Credit.CloudWatch }, duration(time.Second, time.Hour),
		"How often CloudWatch is asked for the credit balance; its points are five minutes apart.").byTag(),
	one("credit.proc-dir", "/proc", func(c *Config) *string { return &c.Credit.ProcDir }, absolute, "Where the host's /proc is mounted."),
	one("credit.cgroup-dir", "/sys/fs/cgroup", func(c *Config) *string { return &c.Credit.CgroupDir }, absolute, "Where the host's cgroups are mounted."),

	one("gate.reserve", "auto", func(c *Config) *float64 { return &c.Gate.Reserve }, credits,
		"Credits that batches must leave for the services; auto is an hour at full speed, at most a fifth of the largest balance.").byTag(),
	one("gate.open-mark", "auto", func(c *Config) *float64 { return &c.Gate.OpenMark }, credits,
		"Credits that must be free above the reserve before the gate opens; it closes below half of them; auto is a twentieth of the largest balance.").byTag(),
	one("gate.horizon", "12h", func(c *Config) *time.Duration { return &c.Gate.Horizon }, duration(time.Hour, 24*time.Hour),
		"How far ahead the services' own need is kept safe.").byTag(),
	one("gate.dwell", "5m", func(c *Config) *time.Duration { return &c.Gate.Dwell }, duration(time.Second, 6*time.Hour),
		"Shortest time between two changes of the gate, except to close it for safety.").byTag(),
	one("gate.stale-after", "", func(c *Config) *time.Duration { return &c.Gate.StaleAfter }, duration(5*time.Minute, 24*time.Hour).orEmpty("none"),
		"Age of CloudWatch's newest point at which the balance counts as unknown, which closes the gate. It does in any case when it may be wrong by a fifth of the largest balance.").byTag(),
	one("gate.surplus-limit", "0", func(c *Config) *float64 { return &c.Gate.SurplusLimit }, number(0, 1e6),
		"Surplus credits, which cost money, that an unlimited instance may be charged and owe in a gate.surplus-period before batches are held; 0 is none, unless gate.surplus-dollars allows some."),
	one("gate.surplus-dollars", "0", func(c *Config) *float64 { return &c.Gate.SurplusDollars }, number(0, 1e5),
		"What that surplus may cost in US dollars; 0 is nothing, unless gate.surplus-limit allows some. Of two limits the lesser holds."),
	one("gate.surplus-period", "month", func(c *Config) *string { return &c.Gate.SurplusPeriod }, word("month", "day"),
		"For which part of the calendar, in UTC, both limits are."),
	one("gate.surplus-price", "auto", func(c *Config) *float64 { return &c.Gate.SurplusPrice }, amount("US dollars", 0.001, 10),
		"Price of a vCPU-hour of surplus; auto is AWS's for Linux: 0.05 for T2, T3 and T3a, 0.04 for T4g, and 0.05 assumed for T8i. Windows costs 0.096."),
	one("gate.busy", "0.5", func(c *Config) *float64 { return &c.Gate.Busy }, number(0.01, 1),
		"On an instance without credits: share of all processors used by services at which the gate closes.").byTag(),
	list("gate.windows", "", func(c *Config) *[]string { return &c.Gate.Windows }, text("[DAY or DAY-DAY] HH:MM-HH:MM [ZONE], such as 22:00-06:00 Asia/Tokyo or Sat-Sun 00:00-24:00 UTC; none is always", windowForm.MatchString,
		"is not a window such as 22:00-06:00 Asia/Tokyo"),
		"When batches may start, by the wall clock of a time zone (UTC if none is named), whatever the credits are.").byTag(),
	one("gate.slow", "off", func(c *Config) *string { return &c.Gate.Slow }, word("off", "quota", "pause"),
		"What is done to running batches when the forecast for the services falls below the reserve, or what they still need would be billed: nothing, a CPU quota, or a pause, until it recovers.").byTag(),
	flag("gate.ecs", "false", func(c *Config) *bool { return &c.Gate.ECS },
		"Publish the gate to ECS as the attribute nagaya.batch=open|closed of this container instance.").byTag(),
	one("gate.batch-compute-environment", "", func(c *Config) *string { return &c.Gate.BatchCE }, text("a name or ARN", batchName.MatchString, "is not the name or ARN of a compute environment").orEmpty("none"),
		"Publish the gate to AWS Batch: enable this compute environment while the gate is open, disable it while closed."),
	one("gate.on-exit", "closed", func(c *Config) *string { return &c.Gate.OnExit }, word("closed", "unchanged"),
		"What is published to ECS and AWS Batch when the agent is stopped: that the gate is closed, or nothing, so that a short stop changes nothing. The gate's file is closed either way.").byTag(),

	one("metrics.listen", "127.0.0.1:9646", func(c *Config) *string { return &c.Metrics.Listen }, kind[string]{
		allowed: "address:port", parse: reading(func(v string) (string, error) { _, err := netip.ParseAddrPort(v); return v, err }, "is not an address with a port, such as 127.0.0.1:9646"), format: asIs,
	}.orEmpty("off"),
		"Where Prometheus metrics are served, and the page."),

	one("page.host", "", func(c *Config) *string { return &c.Page.Host }, text("a host name", func(v string) bool { return pattern.Host(v) && v[0] != '*' }, "is not a host name").orEmpty("none"),
		"Host name at which nginx serves the page too, over HTTPS only; page.auth or page.allow must say for whom."),
	one("page.auth", "", func(c *Config) *string { return &c.Page.Auth }, text("the name of a file in nginx.htpasswd-dir", fileName.MatchString, "is not a plain file name").orEmpty("none"),
		"Password file for page.host."),
	list("page.allow", "", func(c *Config) *[]netip.Prefix { return &c.Page.Allow }, kind[netip.Prefix]{allowed: "addresses or CIDR ranges of /8 at the widest (IPv6: /16)", parse: parseSome, format: netip.Prefix.String},
		"Clients that may come to page.host; with page.auth too they need the password as well."),
}

var (
	claimForm = pattern.Of(400, `eipalloc-[0-9a-f]{8,32}|tag:[^=\s]+=.*`)
	userName  = pattern.Of(32, `[a-z_][a-z0-9_-]*`)
	unitName  = pattern.Of(255, `[A-Za-z0-9:_.@-]+\.service`)
	labelName = pattern.Of(255, `[A-Za-z0-9][A-Za-z0-9._/-]*`)
	rootForm  = pattern.Of(1024, `none|[2-5][0-9][0-9]( [^\s"']+)?`)
	// Package gate reads it, and knows days, times and zones.
	windowForm = pattern.Of(100, `([A-Za-z]{3}(-[A-Za-z]{3})? +)?[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}( +[A-Za-z][A-Za-z0-9_+/-]*)?`)
	fileName   = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	sharedForm = pattern.Of(400, `[A-Za-z0-9][A-Za-z0-9._-]*(=(ecs|compose|name|file):[A-Za-z0-9_][A-Za-z0-9_./-]*)?`)
	// Docker refuses filters with other values, and after a refused list nothing changes any more.
	filterForm = regexp.MustCompile(`^((ancestor|id|label|name|network|volume)=.+|(expose|publish)=[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?)$`)
	// A wrong one would end the agent that reads it, so it is checked here.
	dockerForm  = regexp.MustCompile(`^(unix:///.+|tcp://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)$`)
	storeForm   = pattern.Of(4096, `/[^\s?#]+|s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?`)
	keyForm     = pattern.Of(2048, `[A-Za-z0-9][A-Za-z0-9:/_-]*`)
	emailForm   = pattern.Of(254, `[^\s@<>,;:"\\]+@[A-Za-z0-9.-]+`)
	profileForm = pattern.Of(64, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	zoneForm    = pattern.Of(400, `[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?=(/hostedzone/)?Z[A-Z0-9]{1,32}`)
	batchName   = pattern.Of(256, `[A-Za-z0-9][A-Za-z0-9:/_-]*`)
)

// isStore also counts what S3 bounds: 63 bytes of a bucket's name, and 1,024 of a key, half of which is the prefix.
func isStore(v string) bool {
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(v, "s3://"), "/")
	return storeForm.MatchString(v) && (v[0] == '/' || len(bucket) <= 63 && len(prefix) <= 512)
}

// httpsURL is where a CA is spoken to.
var httpsURL = text("an https URL", pattern.Of(1024, `https://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~%/?=&-]*)?`).MatchString, "is not an https URL")

// logName reports whether a log can have that name. A word by which YAML says yes or no would be a file that nobody meant.
func logName(v string) bool {
	return fileName.MatchString(v) && !slices.Contains([]string{"true", "false", "yes", "no", "on"}, strings.ToLower(v))
}

func isIPv4(v string) bool {
	a, err := netip.ParseAddr(v)
	return err == nil && a.Is4()
}

// claimText checks an entry of address.claim.
func claimText(v string) error {
	what, at, placed := v, "", false
	if i := strings.LastIndexByte(v, '@'); i >= 0 {
		at = v[i+1:]
		if placed = pattern.InterfaceID.MatchString(at) || isIPv4(at); placed {
			what = v[:i]
		}
	}
	switch {
	case v == "", claimForm.MatchString(what), isIPv4(what):
		return nil
	case at != "" && !placed:
		return fmt.Errorf("%q is neither a private IPv4 address nor a network interface (eni-…), behind @ in %q", at, v)
	}
	return fmt.Errorf("%q is neither an allocation id (eipalloc-…), nor an IPv4 address, nor tag:KEY=VALUE", v)
}

// host is a host name.
func host(allowed string) kind[string] {
	return canonical(allowed, pattern.CanonicalHost, "is not a host name")
}

// hsts is the value of the header Strict-Transport-Security.
var hsts = canonical("off, or max-age=SECONDS with ; includeSubDomains and ; preload behind it", func(v string) (string, bool) {
	if strings.EqualFold(v, "off") {
		return "off", true
	}
	return pattern.HSTS(v)
}, "is neither off nor like max-age=31536000; includeSubDomains")
