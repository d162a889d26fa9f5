package box

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// programs are those whose calls are commands, wherever a document has them.
const programs = `nagaya|nagaya-sim|journalctl|systemctl|systemd-[a-z]+|docker|make|aws|apt-get|apt|dnf|yum|dpkg|rpm|curl|packer|kill|sudo|ssh|install|openssl|logrotate|htpasswd|tail|chown`

var (
	// A block with its language and text, or a call in a sentence.
	shown   = regexp.MustCompile("(?ms)^```(\\w*)\\n(.*?)^```$|`((?:" + programs + ")\\s[^`]+)`")
	call    = regexp.MustCompile(`^([A-Z]+=\$\()?(` + programs + `)( |$)`)
	comment = regexp.MustCompile(`\s# .*`)
)

// commands are those that a document shows, in order: in blocks that are no other
// language's, of lines that begin with "$ " if there are any; and in sentences.
func commands(text string) (all []string) {
	add := func(command string) {
		all = append(all, strings.Join(strings.Fields(comment.ReplaceAllString(command, "")), " "))
	}
	for _, m := range shown.FindAllStringSubmatch(strings.ReplaceAll(text, "\\\n", " "), -1) {
		if m[3] != "" {
			add(m[3])
		}
		if !slices.Contains([]string{"", "sh", "bash", "shell", "console"}, m[1]) {
			continue
		}
		prompted := strings.Contains("\n"+m[2], "\n$ ")
		for line := range strings.Lines(m[2]) {
			command, prompt := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if (prompt || !prompted) && call.MatchString(command) {
				add(command)
			}
		}
	}
	return all
}

// special is what a command needs that cannot just be run as it stands.
type special struct {
	as            string // what is run in its place
	before, after string // scripts around it
	codes         []int  // exit codes, other than 0, that are answers
	why           string // it is not run, because
}

// again tries a command until it succeeds, for a minute.
func again(command string) string {
	return "timeout 60 sh -c 'until " + command + " >/dev/null 2>&1; do sleep 0.1; done'\n"
}

var (
	start  = "systemctl start nagaya nagaya-nginx\n" + served
	served = again("curl -fsS --cacert /etc/nagaya/ca.crt --resolve a.test:443:127.0.0.1 https://a.test/")
	stay   = "nagaya leave --undo; nagaya address claim\n"
	edited = func(unit string) special {
		const edit = "script -qec 'systemctl edit %s' /dev/null" // it wants a terminal
		return special{as: fmt.Sprintf(edit, unit), after: "systemctl cat " + unit + " | grep edited\nsystemctl revert " + unit}
	}
	// A part of a sentence, of which the help knows.
	part = func(command string) special { return special{as: command + " --help"} }
)

// images makes those that the documents name of what the box has: its own nginx, and the
// sample service.
const images = `tar -C / --exclude=usr/bin/docker* --exclude=usr/bin/container* --exclude=usr/share/* -c bin sbin lib lib64 usr etc var/log/nginx var/lib/nginx --no-recursion run tmp |
	docker import - nginx:1.30 >/dev/null
mkdir image
cp /usr/bin/nagaya packaging/image/Dockerfile image/
docker build -q --build-arg BASE=nginx:1.30 -t nagaya:latest image
printf 'FROM household\nCMD ["-name", "whoami", "-listen", ":8000"]\n' | docker build -q -t whoami -
`

// specials are by the command as the documents have it, word by word.
var specials = map[string]special{
	// An answer may be no.
	"nagaya gate check":       {codes: []int{1}},
	"nagaya doctor":           {codes: []int{1}},
	"sudo nagaya doctor":      {codes: []int{1}},
	"systemctl status nagaya": {codes: []int{3}},

	"sudo usermod -aG nagaya-admin ec2-user":   {as: "id ec2-user || useradd ec2-user; usermod -aG nagaya-admin ec2-user"},
	"nagaya gate --why index":                  {codes: []int{1}},
	"nagaya address release --now":             {after: "nagaya leave --undo"}, // its budget forbids to take it back at once
	"nagaya address release":                   {after: stay},
	"nagaya leave":                             {after: stay},
	"systemctl stop nagaya":                    {after: start},
	"systemctl stop nagaya-nginx":              {after: start},
	"systemctl stop nagaya nagaya-nginx":       {after: start},
	"systemctl restart nagaya-nginx":           {after: served},
	"systemctl edit nagaya-nginx":              edited("nagaya-nginx"),
	"systemctl edit nagaya-batch@report.timer": edited("nagaya-batch@report.timer"),
	"systemctl edit nagaya":                    edited("nagaya"),
	"chown nagaya: /mnt/efs/nagaya":            {before: "mkdir -p /mnt/efs/nagaya"},
	"nagaya certs import --dry-run /etc/letsencrypt": {
		before: "mkdir -p /etc/letsencrypt/live/shop\ncp /etc/nagaya/certs/shop.example.com.* /etc/letsencrypt/live/shop/",
	},
	"nagaya certs import": part("nagaya certs import"), "nagaya certs renew HOST": part("nagaya certs renew"),
	"nagaya certs import /etc/acme.sh":     {before: "mkdir -p /etc/acme.sh\ncp /etc/nagaya/certs/shop.example.com.* /etc/acme.sh/"},
	"nagaya certs import /etc/letsencrypt": {after: "test \"$(stat -c %U /var/lib/nagaya/store/certs/*)\" = nagaya"},

	"nagaya agent": part("nagaya agent"), "nagaya gate run": part("nagaya gate run"), "nagaya plan": part("nagaya plan"), "nagaya simulate": part("nagaya simulate"),
	"docker run": part("docker run"), "docker start": part("docker start"), "docker stop": part("docker stop"),
	"nagaya gate free": part("nagaya gate free"), "docker rm": part("docker rm"), "docker run --rm": part("docker run"),
	"docker inspect": part("docker inspect"), "docker logs": part("docker logs"),

	"apt purge":          {as: "apt-get purge --simulate nagaya"},
	"docker stop -t 60":  {as: "docker stop -t 60 proxy", after: "docker rm -f proxy whoami\n" + start},
	"docker kill -s HUP": {as: "docker kill -s HUP nginx", after: served},
	"chown -R nagaya: /run/nagaya/nginx /var/log/nagaya": {
		before: "docker rm -f nginx\nsystemctl stop nagaya\ncp nagaya.yaml /etc/nagaya/nagaya.yaml", after: start,
	},
	"install -m 640 shop.example.com.key /etc/nagaya/certs/": {
		before: "cp /etc/nagaya/certs/shop.example.com.key .",
		after:  `test "$(stat -c '%a %G' /etc/nagaya/certs/shop.example.com.key)" = '640 nagaya'`,
	},
	"sudo apt install ./nagaya_0.1.0_amd64.deb": {before: "dpkg --remove nagaya", after: again("systemctl is-active nagaya") + start},
	// Its Region is not the simulated one.
	"nagaya plan --from-cloudwatch tag:team=web --region eu-central-1 --days 28 --jobs mail=mail.yaml": {
		as: "nagaya plan --from-cloudwatch tag:team=web --region ap-northeast-1 --days 28 --jobs mail=mail.yaml",
	},

	"docker run -d --name proxy -p 80:80 -p 443:443 -v /var/run/docker.sock:/tmp/docker.sock:ro -v /srv/proxy/certs:/etc/nginx/certs:ro " +
		"-v /srv/proxy/vhost.d:/etc/nginx/vhost.d:ro -v /srv/proxy/conf.d:/etc/nginx/conf.d:ro -v /srv/proxy/htpasswd:/etc/nginx/htpasswd:ro nagaya:latest": {
		before: images + "systemctl stop nagaya nagaya-nginx", after: again("docker exec proxy nagaya status"),
	},
	"docker run -d --name whoami -e VIRTUAL_HOST=whoami.example -e VIRTUAL_PORT=8000 whoami": {
		after: again("curl -fsS -H Host:whoami.example http://127.0.0.1/"),
	},
	"docker run --read-only --tmpfs /run --tmpfs /var/log/nagaya --tmpfs /var/lib/nagaya": {
		as: "docker run -d --name sealed --read-only --tmpfs /run --tmpfs /var/log/nagaya --tmpfs /var/lib/nagaya " +
			"-v /var/run/docker.sock:/var/run/docker.sock:ro nagaya:latest",
		after: again("docker exec sealed nagaya status | grep serves") + "docker rm -f sealed",
	},
	"docker run -d --name nginx --restart always --network host --label nagaya.nginx -v /var/lib/nagaya/nginx:/var/lib/nagaya/nginx " +
		"-v /run/nagaya/nginx:/run/nagaya/nginx -v /var/log/nagaya:/var/log/nagaya -v /etc/nagaya:/etc/nagaya:ro nginx:1.30 sh -c " +
		"'until nginx -t -q -c /var/lib/nagaya/nginx/current/nginx.conf -e stderr; do sleep 1; done; rm -f /run/nagaya/nginx/*.sock; " +
		`exec nginx -c /var/lib/nagaya/nginx/current/nginx.conf -p /var/lib/nagaya/nginx -e /var/log/nagaya/error.log -g "daemon off;"'`: {
		before: "systemctl stop nagaya nagaya-nginx\ncp /etc/nagaya/nagaya.yaml .\nprintf 'nginx:\\n  mode: container\\n' >/etc/nagaya/nagaya.yaml\nsystemctl start nagaya",
		after:  served,
	},

	"sudo dnf install ./nagaya-0.1.0-1.x86_64.rpm": {why: "it is for Amazon Linux, which is nowhere to be had; rpm reads the package in TestRPM"},
	"htpasswd -c /etc/nagaya/htpasswd/staff NAME":  {why: "it asks for a password at a terminal"},
	"packer init packaging/ami":                    {why: "it fetches a plugin from the network"},
	"packer build -var region=ap-northeast-1 -var architecture=arm64 -var package=dist/nagaya-0.1.0-1.aarch64.rpm packaging/ami": {
		why: "it launches an instance of AWS; Packer judges the template in TestPackerTakesTheTemplate",
	},
}

// needed are the files that the commands name, in /root.
func needed(t *testing.T) map[string]File {
	t.Helper()
	script := File{Content: []byte("#!/bin/sh\n"), Mode: 0o755}
	all := map[string]File{
		"/root/cpu.csv": Text(days), "/root/web.csv": Text(days), "/root/mail.csv": Text(days), "/root/jobs.yaml": Text(jobs), "/root/mail.yaml": Text(jobs),
		"/root/nagaya_0.1.0_amd64.deb": deb(t, newer()), "/root/dist/nagaya-0.1.0-1.aarch64.rpm": Text("a package"), "/root/htpasswd/staff": Text("staff:x"),
		"/usr/local/bin/report": script, "/etc/nagaya/batches/report": script,
		"/usr/local/bin/sudo": {Content: []byte("#!/bin/sh\nexec \"$@\"\n"), Mode: 0o755}, // who asks is root
		"/usr/local/bin/edit": {Content: []byte("#!/bin/sh\nsed -i '/^### Anything/a [Unit]\\nDescription=edited' \"$1\"\n"), Mode: 0o755},
	}
	tree := os.DirFS("../../..")
	must(t, fs.WalkDir(tree, "packaging", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(tree, path)
		all["/root/"+path] = File{Content: content}
		return err
	}))
	return all
}

// days is a load of a few percent, two whole days and more, each quarter of an hour.
var days = func() string {
	var b strings.Builder
	for at := range 3 * 24 * 4 {
		fmt.Fprintf(&b, "%s,%d\n", time.Date(2026, 3, 2, 0, 15*at, 0, 0, time.UTC).Format(time.RFC3339), 3+at%4)
	}
	return b.String()
}()

const jobs = "jobs:\n  - {name: report, schedule: \"30 1 * * *\", need: 10, deadline: 6h}\n"

// awsCLI runs the AWS CLI of the tools with the box's files, as somebody at their desk
// does: it is not on the instance.
const awsCLI = `#!/bin/sh
mountpoint -q /opt/debian/tmp || mount --bind /root /opt/debian/tmp
export HOME=/tmp PYTHONPYCACHEPREFIX=/tmp/.pycache AWS_DEFAULT_REGION=ap-northeast-1
exec unshare --root=/opt/debian --wd=/tmp /usr/bin/python3 /usr/bin/aws --endpoint-url %s "$@"
`

// unbusy is a type whose baseline is more than the processors of most machines that run these tests:
// what they do counts as the services, which then leave credits for a job however busy they are.
const unbusy = "t3.2xlarge"

// TestDocuments runs every command that README and docs show on a machine, or says why not.
func TestDocuments(t *testing.T) {
	tools, err := tell("../../..", nil, ".ci/debian-tools")
	must(t, err)
	s := free(t)
	_, err = s.Cloud.AddInstance(simaws.InstanceSpec{
		PrivateIP: "10.0.1.1", LaunchTime: time.Now().Add(-40 * 24 * time.Hour), CreditMode: simaws.Standard, CPUPercent: 5,
		Tags: map[string]string{"team": "web", "Name": "mail"},
	})
	must(t, err)
	m := launch(t, s, Launch{
		Spec: simaws.InstanceSpec{
			Type: unbusy, LaunchTime: time.Now().Add(-24 * time.Hour), CreditMode: simaws.Standard, CPUPercent: 1,
			// A short horizon, so that a job needs no patience.
			Tags:     map[string]string{"nagaya:address-claim": "tag:Name=nagaya", "nagaya:gate-horizon": "1h"},
			UserData: firstBoot(t),
		},
		Files:  map[string]File{PackageFile: deb(t, newer())},
		Tasks:  map[string][]string{"alpha": Task("alpha", "a.test")},
		Mounts: map[string]string{"/opt/debian": tools[strings.LastIndex(tools, "\n")+1:]},
	})
	must(t, s.Cloud.SetCredits(m.InstanceID, simaws.Credits{Balance: 4000}, true))
	visitor, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	until(t, "a.test is served", func() error { return visit(visitor, "a.test") })
	var aws account
	files := needed(t)
	files["/usr/local/bin/aws"] = File{Content: fmt.Appendf(nil, awsCLI, aws.open(t, s)), Mode: 0o755}
	must(t, m.Put(t.Context(), files))

	pages, err := filepath.Glob("../../../docs/*.md")
	must(t, err)
	// The first page gives the address away, which may be taken back a minute later.
	pages = append(pages[1:], "../../../README.md", "../../../README.ja.md", "../../../packaging/README.md", pages[0])
	done := map[string]bool{}
	type shown struct{ page, command string }
	var all, ofAWS []shown
	for _, page := range pages {
		text, err := os.ReadFile(page)
		must(t, err)
		for _, command := range commands(string(text)) {
			one := shown{filepath.Base(page), command}
			switch why := specials[command].why; {
			case done[command]:
			case why != "":
				t.Logf("%s: not run: %s (%s)", one.page, command, why)
			case strings.Contains(command, "aws "):
				ofAWS = append(ofAWS, one)
			default:
				all = append(all, one)
			}
			done[command] = true
		}
	}
	run := func(shown []shown) {
		for _, one := range shown {
			if err := m.document(one.command, &aws); err != nil {
				t.Errorf("%s: %s: %v", one.page, one.command, err)
			}
		}
	}
	// The AWS CLI takes its time to start, and needs nothing of the box.
	var beside sync.WaitGroup
	beside.Go(func() { run(ofAWS) })
	run(all)
	beside.Wait()
	for command := range specials {
		if !done[command] {
			t.Errorf("no document has the command %s", command)
		}
	}
	t.Logf("%d of %d commands were run", len(all)+len(ofAWS), len(done))
	if len(all) < 80 || len(ofAWS) < 10 {
		t.Error("the search is blind")
	}
}

// document runs one command of a document.
func (m *machine) document(command string, aws *account) error {
	m.t.Helper()
	s := specials[command]
	as := cmp.Or(s.as, command)
	// What is for the source tree is asked for what it would do: the tests are a part of it.
	if rest, is := strings.CutPrefix(as, "make "); is {
		_, err := tell("../../..", []string{"MAKEFLAGS="}, "make", append([]string{"-n"}, strings.Fields(rest)...)...)
		return err
	}
	if rest, is := strings.CutPrefix(as, "nagaya-sim "); is {
		_, err := tell(".", nil, filepath.Join(packages, "bin", "nagaya-sim"), strings.Fields(rest)...)
		return err
	}
	sh := func(script string) error {
		if script == "" {
			return nil
		}
		if out, code := m.try("bash", "-ec", "cd /root\n"+script); code != 0 {
			return fmt.Errorf("exit code %d of\n%s\n%s", code, script, out)
		}
		return nil
	}
	if err := sh(s.before); err != nil {
		return err
	}
	if strings.Contains(as, "aws ") {
		aws.take()
	}
	out, code := m.try("env", "-C", "/root", "SYSTEMD_PAGER=", "SYSTEMD_EDITOR=/usr/local/bin/edit", "AWS_PAGER=", "CLUSTER="+batchCluster, "timeout", "60", "bash", "-c", as)
	if code != 0 && !slices.Contains(s.codes, code) {
		return fmt.Errorf("exit code %d\n%.1500s", code, out)
	}
	if strings.Contains(as, "aws ") && len(aws.take()) == 0 {
		return fmt.Errorf("AWS was asked nothing\n%.1500s", out)
	}
	return sh(s.after)
}

func TestCommandsAreFound(t *testing.T) {
	const page = "Say `nagaya address`:\n\n```\n$ nagaya status\nnagaya 1.0 is here\n```\n\n```sh\nmake build \\\n  all # both\n```\n```yaml\nnagaya no\n```\n```\na drawing\n```\n"
	want := []string{"nagaya address", "nagaya status", "make build all"}
	if have := commands(page); !slices.Equal(have, want) {
		t.Errorf("%q, want %q", have, want)
	}
}

// A fresh tree has no program yet.
func TestMakeBoxBuildsWhatItRuns(t *testing.T) {
	out, err := tell("../../..", []string{"MAKEFLAGS="}, "make", "-n", "box", "COUNT=2", "RUN=nagaya status")
	must(t, err)
	built, run := strings.Index(out, " -o bin/ "), strings.Index(out, "bin/nagaya-sim box --count 2 --package dist/*.deb -- sh -c 'nagaya status'")
	if built < 0 || run < built {
		t.Errorf("make box would do:\n%s", out)
	}
}
