// Package userdata holds the tests of the user data.
package userdata

import (
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

var update = flag.Bool("update", false, "write batch.mime again from ecs.sh")

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==NAGAYA==\"\n\n" +
		"--==NAGAYA==\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\n\n"
	tail = "\n--==NAGAYA==--\n"
)

// AWS Batch takes user data as MIME multi-part only, to which it adds a part of its own.
func TestBatchHasTheSameScript(t *testing.T) {
	script := read(t, "ecs.sh")
	if *update {
		if err := os.WriteFile("batch.mime", []byte(head+script+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := mail.ReadMessage(strings.NewReader(read(t, "batch.mime")))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" {
		t.Fatalf("Content-Type %q, %v", kind, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	part, err := parts.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	if kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type")); err != nil || kind != "text/x-shellscript" {
		t.Errorf("the part is %q, %v", kind, err)
	}
	body, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(script, string(body)); diff != "" {
		t.Errorf("batch.mime has another script (go test ./packaging/user-data -update):\n%s", diff)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the first part: %v", err)
	}
}

// EC2 takes 16 KiB before encoding, and the part's charset is ASCII.
func TestEC2TakesIt(t *testing.T) {
	for _, name := range []string{"ecs.sh", "batch.mime"} {
		text := read(t, name)
		if len(text) > 16<<10 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r > 126 || r < 32 && r != '\n' && r != '\t' }); i >= 0 {
			t.Errorf("%s: no plain ASCII at %q", name, text[i:min(i+20, len(text))])
		}
	}
}

// What user data starts and waits for, waits for user data: see systemd/nagaya.service.
func TestNothingIsWaitedFor(t *testing.T) {
	seen := 0
	for _, line := range strings.Split(read(t, "ecs.sh"), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "systemctl" {
			continue
		}
		seen++
		if !strings.Contains(line, " --no-block ") {
			t.Errorf("without --no-block: %s", line)
		}
	}
	if seen == 0 {
		t.Error("no systemctl found; the search is blind")
	}
}

// split is cloud-init's own way from user data to its parts.
const split = `
import sys
from cloudinit import helpers, user_data
paths = helpers.Paths({"cloud_dir": "/tmp/cloud", "run_dir": "/tmp/cloud"})
for part in user_data.UserDataProcessor(paths).process(sys.stdin.buffer.read()).walk():
    if part.get_content_maintype() != "multipart":
        print(part.get_content_type())
        sys.stdout.write(part.get_payload(decode=True).decode())
`

func TestCloudInitFindsTheScript(t *testing.T) {
	testenv.NeedRoot(t)
	root := testenv.NeedFile(t, ".ci/debian-tools", ".cache/debian-tools")
	script := read(t, "ecs.sh")
	for _, name := range []string{"ecs.sh", "batch.mime"} {
		cmd := exec.Command("chroot", root, "/usr/bin/python3", "-c", split)
		cmd.Stdin = strings.NewReader(read(t, name))
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, said.String())
			continue
		}
		if diff := cmp.Diff("text/x-shellscript\n"+script, out.String()); diff != "" {
			t.Errorf("cloud-init makes of %s (-wanted +made):\n%s", name, diff)
		}
	}
}
