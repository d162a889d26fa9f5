// Package config is every setting of nagaya: its name, meaning, allowed values
// and default, in one table from which the file, the environment, instance
// tags, flags, messages and documents all follow. It parses and resolves;
// package load below it reads files and the environment.
//
// A setting has one dotted path, e.g. routes.timeout, and is known by it
// everywhere: as nested keys in the file, as NAGAYA_ROUTES_TIMEOUT in the
// environment, as --routes-timeout on the command line, and, where tags may give it,
// as the instance tag nagaya:routes-timeout.
package config

import (
	"net/netip"
	"time"
)

// Config holds a value for every setting. The zero Config is not useful: start
// from Default.
type Config struct {
	LogLevel  string
	LocalAddr netip.Addr
	// IMDS is false where there is no instance metadata.
	IMDS bool
	// NginxProxy uses nginx-proxy's proxy-wide environment and directories.
	NginxProxy bool
	StateDir   string
	RunDir     string
	LogDir     string

	Docker  Docker
	ECS     ECS
	Address Address
	Routes  Routes
	Certs   Certs
	Nginx   Nginx
	Credit  Credit
	Gate    Gate
	Metrics Metrics
	Page    Page
}

// Docker says where the Docker Engine is.
type Docker struct {
	Host string
	// Filters are those that a container must fit to be routed, as KEY=VALUE; none is all.
	Filters []string
}

// ECS says where the ECS agent is.
type ECS struct {
	AgentURL string
	// TrustLabels is true where only ECS starts containers with ECS's labels.
	TrustLabels bool
}

// Address says which Elastic IPs are claimed, and how.
type Address struct {
	Claim       []string
	Policy      string
	Ready       []string
	Unreachable time.Duration
	Every       time.Duration
}

// Routes holds the defaults of routes and what happens around them.
type Routes struct {
	BodySize int64
	Timeout  time.Duration
	Grace    time.Duration
	// Dir holds the operator's files for what does not run in Docker.
	Dir         string
	DefaultHost string
	// ShareHosts lets containers of several families serve one host.
	ShareHosts bool
	// Expressions lets containers use regular expressions for hosts and paths.
	Expressions   bool
	ReservedPorts []uint16
	// OpenWildcards are the wildcard hosts under which any family may claim names.
	OpenWildcards []string
	// SharedUpstreams are the words of nagaya.upstream that several families may share.
	SharedUpstreams []string

	// These are the most that labels may ask for.

	MaxBodySize  int64
	MaxTimeout   time.Duration
	MaxKeepalive int

	// MaxOfFamily and Max bound the paths of hosts, and the ports, of one family and of all.

	MaxOfFamily int
	Max         int

	// These hold for sites whose containers do not set them.

	HTTPSMethod string
	// HSTS is empty where it depends on the containers: none for labels, a year for
	// nginx-proxy's variables.
	HSTS            string
	TLSPolicy       string
	RedirectCode    string
	DefaultCert     bool
	HTTPWithoutCert bool
}

// Certs says where certificates are, and how those are got that nobody brings.
type Certs struct {
	Dir string
	// Store is where those from ACME are kept: a directory, or s3://BUCKET/PREFIX; empty is a
	// directory below StateDir. StoreKey is the KMS key that encrypts them in S3, if not the bucket's.
	Store    string
	StoreKey string
	// Waiting is what a site does until its first certificate is there.
	Waiting string
	ACME    ACME
}

// ACME says how certificates are ordered.
type ACME struct {
	// Email is the account's; where it is empty nothing is ordered.
	Email string
	// Directories are the CAs, of which the first that works is taken. Staging is tried before
	// them after failures; empty is that of Let's Encrypt for Let's Encrypt.
	Directories []string
	Staging     string
	Profile     string
	Key         string
	// CAFile has the authorities that the CA's own certificate is verified by, EABFile the
	// accounts that CAs demand.
	CAFile  string
	EABFile string
	// Zones are the zones of Route 53 that challenges by DNS may change, as NAME=ID.
	Zones []string
	// CheckAddress has a host's public name looked up before it is ordered for.
	CheckAddress bool
	// IP orders a certificate for the address itself too.
	IP bool
}

// On reports whether certificates are ordered.
func (a ACME) On() bool { return a.Email != "" && len(a.Directories) > 0 }

// Nginx says how nagaya's own nginx runs.
type Nginx struct {
	Mode           string
	Unit           string
	ContainerLabel string
	Binary         string
	HTTPPort       uint16
	HTTPSPort      uint16
	IPv6           bool
	HTTP2          bool
	HTTP3          bool
	ProxyProtocol  bool
	UpstreamCA     string
	User           string
	AccessLog      string
	DefaultRoot    string
	// ChallengeDir is empty where no challenges are answered.
	ChallengeDir     string
	Challenges       string
	ChallengeUnknown bool
	DebugEndpoint    bool
	// UnservedStatus is 0 where it depends on what is not served.
	UnservedStatus  int
	UnservedCert    string
	ServerTokens    bool
	LogFormat       string
	LogEscape       string
	LogStdout       bool
	SnippetDir      string
	HtpasswdDir     string
	VhostDir        string
	ConfDir         string
	HostAuth        bool
	TrustedProxies  []netip.Prefix
	ShutdownTimeout time.Duration
	StopTimeout     time.Duration
	MaxDraining     int
	StopOnExit      bool
}

// Credit says how CPU credits are watched.
type Credit struct {
	Every      time.Duration
	CloudWatch time.Duration
	ProcDir    string
	CgroupDir  string
}

// Gate says when batches may run. Amounts are CPU credits; Auto leaves the
// choice to the instance type.
type Gate struct {
	Reserve      float64
	OpenMark     float64
	Horizon      time.Duration
	Dwell        time.Duration
	StaleAfter   time.Duration
	SurplusLimit float64
	// SurplusDollars are US dollars, SurplusPrice US dollars a vCPU-hour.
	SurplusDollars float64
	SurplusPeriod  string
	SurplusPrice   float64
	Busy           float64
	// Slow is what is done to running batches when the forecast falls below the reserve.
	Slow    string
	Windows []string
	ECS     bool
	OnExit  string
	BatchCE string
}

// Auto is the value of an amount that was left to the instance type.
const Auto = -1.0

// Metrics says where Prometheus metrics are served.
type Metrics struct {
	Listen string
}

// Page says whether the page that is served beside the metrics is a site of its own too.
type Page struct {
	Host string
	// Auth is the base name of a password file in Nginx.HtpasswdDir, Allow the clients that may come; with Host at
	// least one of them is set.
	Auth  string
	Allow []netip.Prefix
}
