package certs

import "time"

// Ledger is what one directory was asked for: an object of the store that all instances share.
// An attempt is noted by Begin, and written, before the CA is spoken to, and End notes how it went.
// The zero Ledger is that of a directory that was never asked. No method changes its receiver.
type Ledger struct {
	Directory string `json:"directory"`
	// Writer and Number make each body differ from all others; the loop sets them.
	Writer string `json:"writer,omitempty"`
	Number uint64 `json:"number,omitempty"`
	// Windows are what the CA said about renewals, by Held.ID.
	Windows map[string]Asked `json:"windows,omitempty"`
}

// Asked is what a CA said about the renewal of a certificate.
type Asked struct {
	Window
	// NotAfter is of the certificate that it is about: a newer one is asked for anew.
	NotAfter time.Time `json:"not_after"`
}

// Result is how an attempt ended.
type Result string

// The results of attempts.
const (
	// Issued: the certificate is in the store; or, of a trial, the staging directory issued one.
	Issued Result = "issued"
	// NameFailed: the CA refused a name, or could not verify it.
	NameFailed Result = "name_failed"
	// DirectoryFailed: the CA did not do its part, or asked to be left alone.
	DirectoryFailed Result = "directory_failed"
	// Replaced: the CA says that the certificate was replaced before (alreadyReplaced, RFC 9773,
	// section 5): it is ordered again without Replaces.
	Replaced Result = "replaced"
	// Interrupted: this agent stopped in good order, or what failed is its own (the store, the disk);
	// the order may be resumed.
	Interrupted Result = "interrupted"
)

// ResultOf says what an error of a CA is about; nil is Issued. What is no *CAError is Interrupted.
func ResultOf(err error) Result {
	if err == nil {
		return Issued
	}
	return Interrupted
}

// Begin notes an attempt. ok is false where the ledger, which another instance may have changed
// since Decide saw it, does not allow it before until.
func (l Ledger) Begin(s Start, now time.Time) (next Ledger, until time.Time, ok bool) {
	return l, time.Time{}, true
}

// End notes how the attempt that Begin noted went; err is what the CA answered, nil for a success.
func (l Ledger) End(s Start, result Result, err error, now time.Time) Ledger { return l }

// Ask notes that the CA is asked about the renewal of a certificate, before it is.
func (l Ledger) Ask(h Held, now time.Time) Ledger { return l }

// Answer notes what it said.
func (l Ledger) Answer(h Held, w Window, err error, now time.Time) Ledger { return l }

// Settle puts right what a clock that was ahead has noted. changed is true where the ledger has to
// be written again.
func (l Ledger) Settle(now time.Time) (next Ledger, changed bool) { return l, false }
