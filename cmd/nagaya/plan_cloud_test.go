package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// The load is read from a simulated EC2 and CloudWatch over their own protocols: in several calls, out of order.
func TestPlanFromCloudWatch(t *testing.T) {
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	cloud, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	for k, v := range cloud.Env(simaws.DefaultInstance) {
		t.Setenv(k, v)
	}
	long := time.Now().Add(-9 * 24 * time.Hour)
	var ids []string
	for _, s := range []simaws.InstanceSpec{
		{Type: "t3.small", LaunchTime: long, CPUPercent: 1, Tags: map[string]string{"Name": "web", "team": "shop"}},
		{Type: "t3.small", LaunchTime: long, CPUPercent: 2, Tags: map[string]string{"team": "shop"}},
		{Type: "m5.large", LaunchTime: long, CPUPercent: 2, Tags: map[string]string{"Name": "big", "team": "shop"}},
		{Type: "t3.micro", Tags: map[string]string{"Name": "new", "team": "shop"}},
	} {
		id, err := cloud.AddInstance(s)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	jobs := written(t, "jobs.yaml", nightly)
	args := []string{"plan", "--config", os.DevNull, "--samples", "3", "--types", "t3.micro", "--days", "8", "--region", "ap-northeast-1"}
	got := nagaya(t, append(args, "--from-cloudwatch", "tag:team=shop", "--jobs", "web="+jobs, "--json")...)
	var a rehearsal.Answer
	if err := json.Unmarshal([]byte(got.out), &a); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if a.Days != 7 || len(a.Groups) != 1 || !slices.Contains(a.Groups[0].Tenants, "web") || !slices.Contains(a.Groups[0].Tenants, ids[1]) || a.Groups[0].Spare > 0.9 {
		t.Errorf("%+v", a)
	}
	if a.Before < 70 || !slices.Contains(a.Groups[0].Tenants, "big") {
		t.Errorf("the m5.large: %+v", a)
	}
	if !strings.Contains(got.errs, ids[3]+": CloudWatch has no CPUUtilization") {
		t.Errorf("left out: %s", got.errs)
	}
	got = nagaya(t, append(args, "--from-cloudwatch", ids[0]+","+ids[1])...)
	if got.code != exitOK || !strings.Contains(got.out, "by a bound that knows the future") {
		t.Errorf("by id: %+v", got)
	}
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--from-cloudwatch", "web"}, exitUsage, "neither an instance id"},
		{[]string{"--from-cloudwatch", "tag:team=nobody"}, exitNo, "no instance that runs or is stopped has tag:team=nobody"},
		{[]string{"--from-cloudwatch", "i-00000000000000000"}, exitNo, "InvalidInstanceID.NotFound"},
		{[]string{"--from-cloudwatch", ids[0], "--days", "64"}, exitUsage, "64 days are not 2 to 63"},
		{[]string{"--from-cloudwatch", ids[0], "--jobs", "mail=" + jobs}, exitUsage, `there is no "mail" from CloudWatch`},
		{[]string{"--from-cloudwatch", ids[0], "--jobs", "mail"}, exitUsage, "not like mail=mail.yaml"},
		{[]string{"--from-cloudwatch", ids[0], "--types", "m5.large"}, exitUsage, "--types"},
	} {
		if got := nagaya(t, append(slices.Clone(args), row.args...)...); got.code != row.code || !strings.Contains(got.errs, row.want) {
			t.Errorf("%v: %+v, want %d and %q", row.args, got, row.code, row.want)
		}
	}
	got = nagaya(t, "simulate", "--config", os.DevNull, "--region", "ap-northeast-1", "--from-cloudwatch", ids[0], "--policy", "gate", "--jobs", jobs, "--days", "4")
	if got.code != exitOK || !strings.Contains(got.out, "t3.small, unlimited, 4.0 days") {
		t.Errorf("simulate: %+v", got) // EC2's own choice for T3
	}
	got = nagaya(t, "simulate", "--config", os.DevNull, "--region", "ap-northeast-1", "--from-cloudwatch", ids[0], "--policy", "gate", "--mode", "standard")
	if got.code != exitOK || !strings.Contains(got.out, "t3.small, standard, ") {
		t.Errorf("simulate in another mode: %+v", got)
	}
	got = nagaya(t, "simulate", "--config", os.DevNull, "--region", "ap-northeast-1", "--from-cloudwatch", "tag:team=shop")
	if got.code != exitUsage || !strings.Contains(got.errs, "3 instances with a load; give one") {
		t.Errorf("simulate with several: %+v", got)
	}
	if err := cloud.SetAllow(simaws.DefaultInstance, []string{"ec2:DescribeInstances", "cloudwatch:GetMetricStatistics"}); err != nil {
		t.Fatal(err)
	}
	got = nagaya(t, "simulate", "--config", os.DevNull, "--region", "ap-northeast-1", "--from-cloudwatch", ids[0], "--policy", "gate")
	if got.code != exitOK || !strings.Contains(got.out, "t3.small, standard, ") || !strings.Contains(got.errs, "EC2 did not tell the credit option of web") {
		t.Errorf("simulate of an unknown mode: %+v", got)
	}
	if err := cloud.SetAllow(simaws.DefaultInstance, []string{"ec2:DescribeInstances"}); err != nil {
		t.Fatal(err)
	}
	if got := nagaya(t, append(args, "--from-cloudwatch", ids[0])...); got.code != exitNo || !strings.Contains(got.errs, "allow the action cloudwatch:GetMetricStatistics") {
		t.Errorf("without the permission: %+v", got)
	}
}
