package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func journalTo(t *testing.T, o JournalOptions) (*slog.Logger, *datagrams) {
	t.Helper()
	d := listen(t)
	o.Path = d.path
	h, err := NewJournal(o)
	if err != nil {
		t.Fatal(err)
	}
	return slog.New(h), d
}

func TestJournalEntries(t *testing.T) {
	id := MessageID("address-held")
	tests := []struct {
		name string
		log  func(*slog.Logger)
		want []string
	}{
		{
			"plain", func(l *slog.Logger) { l.Info("started") },
			[]string{"MESSAGE=started", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		},
		{
			"levels are syslog priorities", func(l *slog.Logger) { l.Error("lost") },
			[]string{"MESSAGE=lost", "PRIORITY=3", "SYSLOG_IDENTIFIER=nagaya"},
		},
		{
			"each attribute is a field and part of the line",
			func(l *slog.Logger) {
				l.Warn("left out", "task_arn", "arn:1", "err", errors.New("no such host"), "after", 2*time.Second)
			},
			[]string{
				`MESSAGE=left out task_arn=arn:1 err="no such host" after=2s`,
				"NAGAYA_AFTER=2s", "NAGAYA_ERR=no such host", "NAGAYA_TASK_ARN=arn:1", "PRIORITY=4", "SYSLOG_IDENTIFIER=nagaya",
			},
		},
		{
			"keys are mapped to what journald takes",
			func(l *slog.Logger) { l.Info("m", "a=b\nPRIORITY=0\nc é", 1, strings.Repeat("k", 99), 2) },
			[]string{
				"MESSAGE=m a=b\nPRIORITY=0\nc é=1 " + strings.Repeat("k", 99) + "=2",
				"NAGAYA_A_B_PRIORITY_0_C___=1", "NAGAYA_" + strings.Repeat("K", 57) + "=2", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya",
			},
		},
		{
			"a line feed in a value starts no new field",
			func(l *slog.Logger) { l.Info("m", "out", "x\nPRIORITY=0") },
			[]string{`MESSAGE=m out="x\nPRIORITY=0"`, "NAGAYA_OUT=x\nPRIORITY=0", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		},
		{
			"groups become prefixes",
			func(l *slog.Logger) {
				l.With("a", 1).WithGroup("eip").With("id", "x").Info("m", slog.Group("eni", "id", "y"), slog.Group("", "in", "z"))
			},
			[]string{
				"MESSAGE=m a=1 eip_id=x eip_eni_id=y eip_in=z",
				"NAGAYA_A=1", "NAGAYA_EIP_ENI_ID=y", "NAGAYA_EIP_ID=x", "NAGAYA_EIP_IN=z", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya",
			},
		},
		{
			"an event has a MESSAGE_ID and is not in the line",
			func(l *slog.Logger) { l.Info("m", Event, "address-held", "container_name", "web", "container", "") },
			[]string{
				"CONTAINER_NAME=web", `MESSAGE=m container_name=web container=""`, "MESSAGE_ID=" + id,
				"NAGAYA_CONTAINER=", "NAGAYA_CONTAINER_NAME=web", "NAGAYA_EVENT=address-held", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya",
			},
		},
		{
			"an event that nobody knows has none", func(l *slog.Logger) { l.Info("m", Event, "x") },
			[]string{"MESSAGE=m", "NAGAYA_EVENT=x", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		},
		{
			"what is not known is empty", func(l *slog.Logger) { l.Info("m", "at", time.Time{}, "addr", netip.Addr{}) },
			[]string{`MESSAGE=m at="" addr=""`, "NAGAYA_ADDR=", "NAGAYA_AT=", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		},
		{
			"times are written short", func(l *slog.Logger) { l.Info("m", "at", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)) },
			[]string{"MESSAGE=m at=2026-01-02T03:04:05Z", "NAGAYA_AT=2026-01-02T03:04:05Z", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, d := journalTo(t, JournalOptions{
				Also: map[string]string{"container_name": "CONTAINER_NAME", "container": "CONTAINER_ID_FULL"},
			})
			tt.log(l)
			got := d.all(t)
			if len(got) != 1 {
				t.Fatalf("%d entries, want 1: %q", len(got), got)
			}
			if diff := cmp.Diff(tt.want, parseEntry(t, got[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What every entry carries is beside its own fields, and gives way to them.
func TestJournalFieldsOfEveryEntry(t *testing.T) {
	var fields Fields
	l, d := journalTo(t, JournalOptions{Fields: &fields})
	fields.Set("instance", "i-1")
	fields.Set("generation", "a")
	l.Info("m", "generation", "b")
	fields.Set("instance", "i-2")
	fields.Set("generation", "")
	l.Info("n")
	(*Fields)(nil).Set("instance", "i-3")
	var got [][]string
	for _, entry := range d.all(t) {
		got = append(got, parseEntry(t, entry))
	}
	if diff := cmp.Diff([][]string{
		{"MESSAGE=m generation=b", "NAGAYA_GENERATION=b", "NAGAYA_INSTANCE=i-1", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
		{"MESSAGE=n", "NAGAYA_INSTANCE=i-2", "PRIORITY=6", "SYSLOG_IDENTIFIER=nagaya"},
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestJournalLevel(t *testing.T) {
	l, d := journalTo(t, JournalOptions{})
	l.Debug("hidden")
	if got := d.all(t); got != nil {
		t.Errorf("debug line sent at the default level: %q", got)
	}
	l, d = journalTo(t, JournalOptions{Level: slog.LevelDebug})
	l.Debug("shown")
	got := parseEntry(t, strings.Join(d.all(t), ""))
	if diff := cmp.Diff([]string{"MESSAGE=shown", "PRIORITY=7", "SYSLOG_IDENTIFIER=nagaya"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoggersFromOneDoNotShareFields(t *testing.T) {
	l, d := journalTo(t, JournalOptions{})
	parent := l.With("a", 1)
	one, two := parent.With("b", 2), parent.With("c", 3)
	one.Info("one")
	two.Info("two")
	got := d.all(t)
	if diff := cmp.Diff([]string{"one a=1 b=2", "two a=1 c=3"}, []string{value(parseEntry(t, got[0]), "MESSAGE"), value(parseEntry(t, got[1]), "MESSAGE")}); diff != "" {
		t.Error(diff)
	}
}

func TestLargeEntryTravelsAsSealedFile(t *testing.T) {
	l, d := journalTo(t, JournalOptions{})
	large := strings.Repeat("nginx: [emerg]\n", 3<<20/15)
	args := []any{}
	for i := range 8 {
		args = append(args, fmt.Sprintf("part%d", i), large)
	}
	l.Error("nginx -t failed", args...)
	got := d.all(t)
	if len(got) != 1 {
		t.Fatalf("%d entries, want 1", len(got))
	}
	if len(got[0]) < 300<<10 {
		t.Fatalf("entry of %d bytes: too small to prove anything", len(got[0]))
	}
	v := value(parseEntry(t, got[0]), "NAGAYA_PART7")
	if len(v) > maxValue || !strings.HasSuffix(v, "…") || !strings.HasPrefix(large, strings.TrimSuffix(v, "…")) {
		t.Errorf("value of %d bytes is not the beginning of what was logged, cut", len(v))
	}
}

func TestNoJournalIsAnError(t *testing.T) {
	if _, err := NewJournal(JournalOptions{Path: t.TempDir() + "/gone"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want one that says the socket does not exist", err)
	}
}

func TestJournalThatComesBackIsUsedAgain(t *testing.T) {
	l, d := journalTo(t, JournalOptions{})
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	l.Info("lost")
	again := listen(t)
	if err := os.Rename(again.path, d.path); err != nil {
		t.Fatal(err)
	}
	l.Info("found")
	got := again.all(t)
	if len(got) != 1 || value(parseEntry(t, got[0]), "MESSAGE") != "found" {
		t.Errorf("after the journal came back: %q, want one entry", got)
	}
}

func TestTextOnStderr(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var b bytes.Buffer
	l := slog.New(NewHandler(&b, JournalOptions{Level: slog.LevelInfo}))
	l.Debug("hidden")
	l.Info("claimed", Event, "address-held", "eni", "eni-1")
	stamp, rest, _ := strings.Cut(b.String(), " ")
	if rest != "level=INFO msg=claimed eni=eni-1\n" {
		t.Errorf("line = %q", b.String())
	}
	if _, err := time.Parse("time="+time.RFC3339, stamp); err != nil {
		t.Errorf("time stamp: %v", err)
	}
	b.Reset()
	slog.New(newText(&b, slog.LevelInfo, false)).Info("claimed")
	if got := b.String(); got != "level=INFO msg=claimed\n" {
		t.Errorf("without time: %q", got)
	}
}

func FuzzJournalEntryHoldsOneMessage(f *testing.F) {
	f.Add("m", "host", "a.example.com")
	f.Add("two\nlines", "PRIORITY", "x\nPRIORITY=0\n")
	f.Add("", "=\n", "\x00\xff")
	f.Fuzz(func(t *testing.T, msg, key, val string) {
		var b bytes.Buffer
		appendField(&b, "MESSAGE", line(msg, []field{{key, val}}))
		appendField(&b, fieldName(key), val)
		fields := parseEntry(t, b.String())
		if len(fields) != 2 {
			t.Fatalf("%d fields, want 2: %q", len(fields), fields)
		}
		if got := value(fields, fieldName(key)); got != cut(val, maxValue) {
			t.Errorf("value = %q, want %q", got, val)
		}
	})
}
