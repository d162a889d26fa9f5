// Package cloudformation holds the tests of the templates.
package cloudformation

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
)

var update = flag.Bool("update", false, "write the user data in the templates again")

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// each runs the test for every template.
func each(t *testing.T, test func(t *testing.T, name string, tmpl template)) {
	names, err := filepath.Glob("*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { test(t, name, load(t, name)) })
	}
}

// What is referred to exists, what is declared is used, and nothing needs itself.
func TestReferencesResolve(t *testing.T) {
	schemas := readSchemas(t)
	each(t, func(t *testing.T, _ string, tmpl template) {
		params, resources, conditions := tmpl.section("Parameters"), tmpl.section("Resources"), tmpl.section("Conditions")
		seen := map[string]bool{}
		needs := map[string][]string{}
		check := func(where string, v any) []string {
			u := used(v)
			for _, s := range u.strange {
				t.Errorf("%s: %s", where, s)
			}
			for _, n := range u.names {
				seen[n] = true
				if params[n] == nil && resources[n] == nil && !slices.Contains(pseudo, n) {
					t.Errorf("%s: there is no %s", where, n)
				}
			}
			for _, c := range u.conditions {
				seen[c] = true
				if conditions[c] == nil {
					t.Errorf("%s: there is no condition %s", where, c)
				}
			}
			all := u.names
			for _, a := range u.attributes {
				r, _ := resources[a[0]].(map[string]any)
				kind, _ := r["Type"].(string)
				if !slices.Contains(schemas.attributes[kind], a[1]) {
					t.Errorf("%s: %s has no attribute %s", where, a[0], a[1])
				}
				all = append(all, a[0])
			}
			return all
		}
		for name, r := range resources {
			needs[name] = check(name, r)
			switch on := r.(map[string]any)["DependsOn"].(type) {
			case string:
				needs[name] = append(needs[name], on)
			case []any:
				for _, n := range on {
					needs[name] = append(needs[name], n.(string))
				}
			}
			for _, n := range needs[name] {
				if other, ok := resources[n].(map[string]any); ok && other["Condition"] != nil && other["Condition"] != r.(map[string]any)["Condition"] {
					t.Errorf("%s needs %s, which may not be there", name, n)
				} else if !ok && params[n] == nil && !slices.Contains(pseudo, n) {
					t.Errorf("%s depends on %s, which is no resource", name, n)
				}
			}
		}
		for _, s := range []string{"Conditions", "Rules", "Outputs"} {
			check(s, tmpl[s])
		}
		for name := range params {
			if !seen[name] {
				t.Errorf("parameter %s is not used", name)
			}
		}
		for name := range conditions {
			if !seen[name] {
				t.Errorf("condition %s is not used", name)
			}
		}
		for name := range resources {
			if path := circle(needs, name, nil); path != nil {
				t.Errorf("resources need each other: %v", path)
				break
			}
		}
	})
}

// circle is a way from the last of path back to it.
func circle(needs map[string][]string, name string, path []string) []string {
	if slices.Contains(path, name) {
		return append(path, name)
	}
	for _, n := range needs[name] {
		if c := circle(needs, n, append(slices.Clip(path), name)); c != nil {
			return c
		}
	}
	return nil
}

type schemas struct {
	properties map[string][]string // of a type, or of an object in it: TYPE/PROPERTY/...
	attributes map[string][]string
}

func readSchemas(t *testing.T) schemas {
	t.Helper()
	s := schemas{map[string][]string{}, map[string][]string{}}
	for line := range strings.Lines(read(t, "testdata/resources.txt")) {
		where, words, ok := strings.Cut(line, ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if kind, is := strings.CutSuffix(where, "@"); is {
			s.attributes[kind] = strings.Fields(words)
		} else {
			s.properties[where] = strings.Fields(words)
		}
	}
	return s
}

// check compares the properties of an object with AWS's.
func (s schemas) check(t *testing.T, where string, v any) {
	t.Helper()
	if name, arg, ok := function(v); ok {
		if name == "Fn::If" {
			for _, v := range arg.([]any)[1:] {
				s.check(t, where, v)
			}
		}
		return
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			s.check(t, where, e)
		}
	case map[string]any:
		known := s.properties[where]
		if known == nil {
			t.Errorf("testdata/resources.txt does not have %s", where)
			return
		}
		if slices.Contains(known, "*") {
			return
		}
		for name, e := range v {
			if !slices.Contains(known, name) && !slices.Contains(known, name+"!") {
				t.Errorf("%s has no property %s", where, name)
				continue
			}
			s.check(t, where+"/"+name, e)
		}
		for _, name := range known {
			if name, must := strings.CutSuffix(name, "!"); must && v[name] == nil {
				t.Errorf("%s lacks %s", where, name)
			}
		}
	}
}

func TestPropertiesAreThoseOfAWS(t *testing.T) {
	schemas := readSchemas(t)
	each(t, func(t *testing.T, _ string, tmpl template) {
		for name, r := range tmpl.section("Resources") {
			r := r.(map[string]any)
			for key := range r {
				if !slices.Contains([]string{"Type", "Properties", "DependsOn", "Condition", "Metadata", "CreationPolicy", "UpdatePolicy"}, key) {
					t.Errorf("%s: %s", name, key)
				}
			}
			kind := r["Type"].(string)
			properties, _ := r["Properties"].(map[string]any)
			if properties == nil {
				properties = map[string]any{}
			}
			schemas.check(t, kind, properties)
		}
		for name, o := range tmpl.section("Outputs") {
			if o := o.(map[string]any); o["Value"] == nil || o["Description"] == nil {
				t.Errorf("output %s has no value or description", name)
			}
		}
	})
}

// Whoever fills in something wrong is told by CloudFormation, not by an instance that
// does not come up.
func TestParametersAreChecked(t *testing.T) {
	each(t, func(t *testing.T, _ string, tmpl template) {
		for name, p := range tmpl.section("Parameters") {
			p := p.(map[string]any)
			kind := p["Type"].(string)
			if d, _ := p["Description"].(string); d == "" {
				t.Errorf("%s is not described", name)
			}
			pattern, hasPattern := p["AllowedPattern"].(string)
			allowed, hasAllowed := p["AllowedValues"].([]any)
			if kind == "String" && !hasPattern && !hasAllowed {
				t.Errorf("%s may be anything", name)
			}
			value, hasDefault := p["Default"].(string)
			if hasAllowed && hasDefault && !slices.Contains(allowed, any(value)) {
				t.Errorf("%s: the default %q is not allowed", name, value)
			}
			if hasPattern {
				re, err := regexp.Compile(pattern)
				if err != nil || !strings.HasPrefix(pattern, "^") || !strings.HasSuffix(pattern, "$") {
					t.Errorf("%s: pattern %s: %v", name, pattern, err)
				} else if hasDefault && !re.MatchString(value) {
					t.Errorf("%s: the default %q does not match", name, value)
				} else if re.MatchString("'; reboot; '") || re.MatchString("a\"b") || re.MatchString("$(x)") {
					t.Errorf("%s: pattern %s lets quotes through, and the user data is a shell script", name, pattern)
				}
			}
		}
	})
}

// insert puts the script in its place in the template.
func insert(t *testing.T, file, script string) {
	t.Helper()
	before, rest, begun := strings.Cut(read(t, file), "./packaging/cloudformation -update\n              - |\n")
	_, after, ended := strings.Cut(rest, "\n              # ")
	if !begun || !ended {
		t.Fatal("there is no place for the user data")
	}
	var b strings.Builder
	b.WriteString(before + "./packaging/cloudformation -update\n              - |\n")
	for line := range strings.Lines(script) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", 16))
		}
		b.WriteString(line)
	}
	if err := os.WriteFile(file, []byte(b.String()+"              # "+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The instance runs what is tested in packaging/user-data, in the form that its launcher
// takes.
func TestUserDataIsTheScript(t *testing.T) {
	script, mime := read(t, "../user-data/ecs.sh"), read(t, "../user-data/batch.mime")
	before, after, _ := strings.Cut(mime, script)
	each(t, func(t *testing.T, file string, tmpl template) {
		if *update {
			insert(t, file, script)
			tmpl = load(t, file)
		}
		data := dig(t, tmpl, "Resources", "LaunchTemplate", "Properties", "LaunchTemplateData", "UserData", "Fn::Base64", "Fn::Join").([]any)
		parts := data[1].([]any)
		if data[0] != "" || len(parts) != 3 {
			t.Fatalf("joined by %q, %d parts", data[0], len(parts))
		}
		if diff := cmp.Diff(script, parts[1]); diff != "" {
			t.Errorf("the user data is not packaging/user-data/ecs.sh (go test ./packaging/cloudformation -update):\n%s", diff)
		}
		head := parts[0].(map[string]any)["Fn::Sub"].([]any)[0].(string)
		if file == "batch.yaml" {
			rest, ok := strings.CutPrefix(head, before)
			if !ok || parts[2] != after {
				t.Errorf("it is not MIME as batch.mime is: %q ... %q", head, parts[2])
			}
			head = rest
		}
		if file == "nagaya.yaml" { // what comes behind it is a part of the script
			tail := dig(t, parts[2], "Fn::Sub").(string)
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(head + script + tail)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(tail, "--resource Group ") {
				t.Errorf("bash: %s; it ends with %s", out, tail)
			}
		}
		// What is set before the script is a setting of it, and quoted.
		lines := strings.Split(strings.TrimSpace(head), "\n")
		if lines[0] != "#!/bin/bash" || len(lines) < 2 {
			t.Errorf("it begins with %q", lines[0])
		}
		for _, line := range lines[1:] {
			name, v, _ := strings.Cut(line, "=")
			if !strings.Contains(script, "\n"+name+"=${"+name+"-}\n") || !regexp.MustCompile(`^'\$\{\w+\}'$`).MatchString(v) {
				t.Errorf("%s: no setting of the script, or not quoted", line)
			}
		}
	})
}

func dig(t *testing.T, v any, path ...string) any {
	t.Helper()
	if m, ok := v.(template); ok {
		v = map[string]any(m)
	}
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok || m[p] == nil {
			t.Fatalf("there is no %s of %v", p, path)
		}
		v = m[p]
	}
	return v
}

// places are the words of packaging/iam-policy.json that stand for the operator's own,
// and what they are in a template.
func places(file string) *strings.Replacer {
	address, cluster := "${Address.AllocationId}", "${Cluster}/*"
	if file == "batch.yaml" {
		address, cluster = "${AllocationId}", "${Name}_Batch_*"
	}
	return strings.NewReplacer(
		"arn:aws:iam::ACCOUNT:instance-profile/PROFILE", "${InstanceProfile.Arn}", "arn:aws:kms:REGION:ACCOUNT:key/KEY-ID", "${CertificateKey}",
		"arn:aws:", "arn:${AWS::Partition}:", "REGION", "${AWS::Region}", "ACCOUNT", "${AWS::AccountId}",
		"eipalloc-ID", address, "vpc-ID", "${Vpc}", "CLUSTER/*", cluster,
		"amazonaws.com", "${AWS::URLSuffix}",
		"BUCKET", "${CertificateBucket}", "PREFIX/*", "${CertificatePrefix}/*", "ZONE-ID", "${HostedZone}",
	)
}

// flat makes functions texts, and one text a list: both mean the same to IAM.
func flat(v any) any {
	if name, arg, ok := function(v); ok {
		switch arg := arg.(type) {
		case string:
			switch name {
			case "Fn::Sub":
				return flat(arg)
			case "Ref":
				return flat("${" + arg + "}")
			}
		case []any:
			if name == "Fn::GetAtt" {
				return flat("${" + arg[0].(string) + "." + arg[1].(string) + "}")
			}
		}
	}
	switch v := v.(type) {
	case string:
		return []any{v}
	case []any:
		return v
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = flat(e)
		}
		return m
	}
	return v
}

// The role may do what the policy of the package says, but for holding AWS Batch: the
// one template has it not, and the other has no credits to hold it for.
func TestRoleIsThePolicy(t *testing.T) {
	each(t, func(t *testing.T, file string, tmpl template) {
		var policy struct{ Statement []map[string]any }
		if err := json.Unmarshal([]byte(places(file).Replace(read(t, "../iam-policy.json"))), &policy); err != nil {
			t.Fatal(err)
		}
		want, got := map[string]any{}, map[string]any{}
		for _, s := range policy.Statement {
			if s["Sid"] != "HoldBatches" {
				want[s["Sid"].(string)] = flat(s)
			}
		}
		for _, s := range dig(t, tmpl, "Resources", "Nagaya", "Properties", "PolicyDocument", "Statement").([]any) {
			s := s.(map[string]any)
			if name, arg, ok := function(s); ok && name == "Fn::If" { // one that the parameters ask for
				s = arg.([]any)[1].(map[string]any)
			}
			got[s["Sid"].(string)] = flat(s)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the role's policy (-packaging/iam-policy.json +template):\n%s", diff)
		}
	})
}

// No role may do anything to everything, and a wildcard is what cannot be named.
func TestRolesAreNarrow(t *testing.T) {
	// These take no resource.
	open := []string{
		"cloudwatch:GetMetricStatistics", "ec2:DescribeAddresses", "ec2:DescribeInstances", "ec2:DescribeInstanceCreditSpecifications",
		"ecr:GetAuthorizationToken", "ecs:DiscoverPollEndpoint",
	}
	seen := 0
	each(t, func(t *testing.T, _ string, tmpl template) {
		walk(map[string]any(tmpl), func(v any) {
			m, _ := v.(map[string]any)
			if m["Effect"] == nil || m["Principal"] != nil {
				return
			}
			seen++
			actions := flat(m["Action"]).([]any)
			for _, a := range actions {
				if strings.Contains(a.(string), "*") {
					t.Errorf("%v", actions)
				}
				if m["Resource"] == "*" && !slices.Contains(open, a.(string)) {
					t.Errorf("%s on everything", a)
				}
			}
			if m["Effect"] != "Allow" || m["Resource"] == nil {
				t.Errorf("%v", m)
			}
		})
	})
	if seen < 10 {
		t.Errorf("only %d statements found; the search is blind", seen)
	}
}

// Tags and labels by which the template speaks to nagaya are words that it knows.
func TestSettingsAndLabelsExist(t *testing.T) {
	settings, known := map[string]bool{}, map[string]bool{}
	for _, s := range config.Settings {
		settings["nagaya:"+strings.ReplaceAll(s.Path, ".", "-")] = true
	}
	for _, l := range labels.Docs() {
		known[l.Name] = true
	}
	var tags, words []string
	walk(map[string]any(load(t, "nagaya.yaml")), func(v any) {
		m, _ := v.(map[string]any)
		if key, ok := m["Key"].(string); ok && strings.HasPrefix(key, "nagaya:") {
			tags = append(tags, key)
		}
		if l, ok := m["DockerLabels"].(map[string]any); ok {
			words = slices.AppendSeq(words, maps.Keys(l))
		}
	})
	for _, tag := range tags {
		if !settings[tag] {
			t.Errorf("the tag %s is no setting", tag)
		}
	}
	for _, w := range words {
		if !known[w] {
			t.Errorf("%s is no label", w)
		}
	}
	if len(tags) == 0 || len(words) < 2 {
		t.Errorf("found tags %v, labels %v; the search is blind", tags, words)
	}
}

// What the parameters say of certificates is a configuration that nagaya understands, whichever of them are given.
func TestCertificatesAreConfigured(t *testing.T) {
	each(t, func(t *testing.T, _ string, tmpl template) {
		data := dig(t, tmpl, "Resources", "LaunchTemplate", "Properties", "LaunchTemplateData", "UserData", "Fn::Base64", "Fn::Join").([]any)[1].([]any)
		given := data[0].(map[string]any)["Fn::Sub"].([]any)[1].(map[string]any)["Config"].(map[string]any)["Fn::If"].([]any)
		text := given[1].(map[string]any)["Fn::Sub"].([]any)[0].(string)
		if given[0] != "HasConfig" || given[2] != "" {
			t.Errorf("set if %v, else %v", given[0], given[2])
		}
		for _, row := range []struct{ email, store, key, zones string }{
			{"ops@example.com", "s3://certificates/nagaya", "arn:aws:kms:eu-west-1:123456789012:key/1a-2b", "example.com=Z0123456789ABC"},
			{"ops@example.com", "", "", ""},
			{"", "s3://certificates/nagaya", "", ""},
		} {
			yaml := strings.NewReplacer("${Store}", row.store, "${CertificateKey}", row.key, "${AcmeEmail}", row.email, "${Zones}", row.zones).Replace(text)
			values, err := config.ParseYAML("CONFIG", []byte(yaml))
			if err != nil {
				t.Fatalf("%s: %v", yaml, err)
			}
			c, err := config.Resolve(values)
			if err != nil {
				t.Fatalf("%s: %v", yaml, err)
			}
			got := c.Config.Certs
			if got.Store != row.store || got.StoreKey != row.key || got.ACME.Email != row.email || strings.Join(got.ACME.Zones, ",") != row.zones {
				t.Errorf("%s: %+v", yaml, got)
			}
		}
	})
}

// The nightly batch's state machine is JSON, whose every state is reached and exists.
func TestBatchWaitsForTheGate(t *testing.T) {
	text := dig(t, load(t, "nagaya.yaml"), "Resources", "Batch", "Properties", "DefinitionString", "Fn::Sub").(string)
	text = strings.ReplaceAll(text, "${BatchPatience}", "600")
	var machine struct {
		TimeoutSeconds int
		StartAt        string
		States         map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(text), &machine); err != nil {
		t.Fatal(err)
	}
	reached := map[string]bool{}
	var reach func(string)
	reach = func(name string) {
		state, ok := machine.States[name]
		if !ok {
			t.Errorf("there is no state %q", name)
		}
		if reached[name] {
			return
		}
		reached[name] = true
		walk(map[string]any(state), func(v any) {
			m, _ := v.(map[string]any)
			for _, key := range []string{"Next", "Default"} {
				if next, ok := m[key].(string); ok {
					reach(next)
				}
			}
		})
	}
	reach(machine.StartAt)
	if len(reached) != len(machine.States) || !reached["Placed"] {
		t.Errorf("reached are %v", reached)
	}
	if c := machine.States["Ask"]["Parameters"].(map[string]any)["PlacementConstraints"]; !cmp.Equal(c, []any{map[string]any{"Type": "memberOf", "Expression": "attribute:nagaya.batch == open"}}) {
		t.Errorf("placed by %v", c)
	}
}

// The API takes so much from a file; and cfn-lint agrees where it is installed, which
// Debian does not have.
func TestCloudFormationTakesIt(t *testing.T) {
	var names []string
	each(t, func(t *testing.T, name string, _ template) {
		names = append(names, name)
		if n := len(read(t, name)); n > 51200 {
			t.Errorf("%d bytes", n)
		}
	})
	if lint, err := exec.LookPath("cfn-lint"); err == nil {
		if out, err := exec.Command(lint, names...).CombinedOutput(); err != nil {
			t.Errorf("cfn-lint: %v\n%s", err, out)
		}
	}
}

// The README's call gives parameters that exist, and all that have no default; what it
// calls an output is one.
func TestReadmeIsRight(t *testing.T) {
	page := read(t, "../README.md")
	tmpl := load(t, "nagaya.yaml")
	_, call, _ := strings.Cut(page, "--parameter-overrides")
	call, _, _ = strings.Cut(call, "\naws ")
	given := map[string]bool{}
	for _, m := range regexp.MustCompile(`\b(\w+)=`).FindAllStringSubmatch(call, -1) {
		given[m[1]] = true
	}
	for name, p := range tmpl.section("Parameters") {
		if p := p.(map[string]any); p["Default"] == nil && !given[name] {
			t.Errorf("%s must be given", name)
		}
		delete(given, name)
	}
	if len(given) > 0 {
		t.Errorf("no parameters: %v", given)
	}
	for _, name := range []string{"Address", "Renew"} {
		if !strings.Contains(page, "output `"+name+"`") || tmpl.section("Outputs")[name] == nil {
			t.Errorf("%s is no output, or not told of", name)
		}
	}
	for _, m := range regexp.MustCompile("`(MetadataHops|BatchPatience|ImageId|FilesPrefix)").FindAllStringSubmatch(page, -1) {
		if tmpl.section("Parameters")[m[1]] == nil {
			t.Errorf("%s is no parameter", m[1])
		}
	}
}
