// Package event names what the journal records: the kinds of events, which
// systemd/nagaya.catalog explains, and the keys of what one is about.
package event

// Key is the attribute of a log line that names its kind.
const Key = "event"

// Quiet is the level, as of package log/slog, of what the history has and the journal only where it is for debugging.
const Quiet = -2

// OfJob is the kind of event by which a job comes to a phase.
func OfJob(phase string) string { return "batch-" + phase }

// OfGate is the kind of event by which the gate opens or closes.
func OfGate(open bool) string {
	if open {
		return GateOpened
	}
	return GateClosed
}

// The kinds of events that are logged where they happen. The words never change,
// because scripts match them.
const (
	AgentStarted           = "agent-started"
	AgentStopped           = "agent-stopped"
	WatchdogAbsent         = "watchdog-absent"
	ConfigTaken            = "config-taken"
	ConfigRefused          = "config-refused"
	ConfigPolled           = "config-polled"
	MemoryLost             = "memory-lost"
	MemoryUnkept           = "memory-unkept"
	SnippetsUnreadable     = "snippets-unreadable"
	ProblemOver            = "problem-over"
	IdentityKnown          = "identity-known"
	MetadataSilent         = "metadata-silent"
	NoticeReceived         = "notice-received"
	AddressDecided         = "address-decided"
	AddressHeld            = "address-held"
	AddressLost            = "address-lost"
	AddressReleased        = "address-released"
	HolderChanged          = "holder-changed"
	AddressTagWritten      = "address-tag-written"
	HolderSilent           = "holder-silent"
	AddressUnsettled       = "address-unsettled"
	DockerAnswers          = "docker-answers"
	DockerSilent           = "docker-silent"
	ECSAgentAnswers        = "ecs-agent-answers"
	ECSAgentSilent         = "ecs-agent-silent"
	RoutesRead             = "routes-read"
	CertificatesRead       = "certificates-read"
	CertificateOrdered     = "certificate-ordered"
	CertificateRenewed     = "certificate-renewed"
	CertificateTried       = "certificate-tried"
	CertificateOrderFailed = "certificate-order-failed"
	OrderUnsettled         = "order-unsettled"
	StoreObjectUnusable    = "store-object-unusable"
	RouteAdded             = "route-added"
	RouteVacant            = "route-vacant"
	RouteRemoved           = "route-removed"
	ServerAdded            = "server-added"
	ServerRemoved          = "server-removed"
	ServiceDeployed        = "service-deployed"
	NginxAdopted           = "nginx-adopted"
	NginxStarted           = "nginx-started"
	NginxReloaded          = "nginx-reloaded"
	NginxKept              = "nginx-kept"
	NginxOutOfSync         = "nginx-out-of-sync"
	NginxResumeFailed      = "nginx-resume-failed"
	NginxRolledBack        = "nginx-rolled-back"
	NginxEnded             = "nginx-ended"
	NginxStopping          = "nginx-stopping"
	NginxLeftRunning       = "nginx-left-running"
	NginxNotStopped        = "nginx-not-stopped"
	NginxLogsKept          = "nginx-logs-kept"
	WorkerEnded            = "worker-ended"
	WorkerStuck            = "worker-stuck"
	WorkerOrphaned         = "worker-orphaned"
	SiteRefused            = "site-refused"
	SnippetRefused         = "snippet-refused"
	ChangeRefused          = "change-refused"
	QuarantineRetried      = "quarantine-retried"
	FilesRestored          = "files-restored"
	FilesNotRestored       = "files-not-restored"
	FilesLeftAlone         = "files-left-alone"
	FilesStable            = "files-stable"
	GenerationGuessed      = "generation-guessed"
	MeterBegan             = "meter-began"
	CreditsUnanswered      = "credits-unanswered"
	CreditsAnswered        = "credits-answered"
	CreditModeKnown        = "credit-mode-known"
	GateOpened             = "gate-opened"
	GateClosed             = "gate-closed"
	GatePublished          = "gate-published"
	GateUnpublished        = "gate-unpublished"
	GateNoted              = "gate-noted"
	BrakeChanged           = "brake-changed"
	ContainerBraked        = "container-braked"
	BatchWaiting           = "batch-waiting"
	BatchAdmitted          = "batch-admitted"
	BatchRunning           = "batch-running"
	BatchRefused           = "batch-refused"
	BatchDone              = "batch-done"
)

// Abouts are the keys of what an event can be about: the same event about another thing is
// another line, however soon it comes. So is another decision, and the same for another reason or
// about another holder.
func Abouts() []string {
	return []string{
		"address", "generation", "host", "path", "container", "container_name", "task", "problem", "subject", "file",
		"dir", "kind", "claim", "about", "job", "job_id", "outlet", "target", "note",
		"decision", "reason", "holder_id", "vcpus",
	}
}

// Journald are the fields that others write too, for the keys that have the same
// meaning: Docker's journald log driver marks a container's own lines with them.
func Journald() map[string]string {
	return map[string]string{"container": "CONTAINER_ID_FULL", "container_name": "CONTAINER_NAME"}
}
