package tasks

import "testing"

// Of one service are containers of one repository with the same labels, and none that another
// program started and marked.
func TestServiceKey(t *testing.T) {
	labels := map[string]string{"nagaya.host": "a.test", "org.opencontainers.image.version": "1"}
	key := func(image, more, value string) string {
		all := map[string]string{"nagaya.host": "a.test", "org.opencontainers.image.version": image}
		if more != "" {
			all[more] = value
		}
		return ServiceKey(image, all, map[string]string{"nagaya.host": "a.test"}, nil)
	}
	is := ServiceKey("shop", labels, map[string]string{"nagaya.host": "a.test"}, nil)
	for image, want := range map[string]bool{
		"shop": true, "shop:2": true, "shop@sha256:00": true, "shop:2@sha256:00": true, "docker.io/library/shop:2": true,
		"shop2": false, "registry:5000/shop": false, "sha256:00": false, "other/shop": false,
	} {
		if got := key(image, "", "") == is; got != want {
			t.Errorf("%s: %v, want %v", image, got, want)
		}
	}
	if key("registry:5000/shop", "", "") != key("registry:5000/shop:9", "", "") || key("sha256:00", "", "") == key("sha256:01", "", "") {
		t.Error("a port, or an id, is taken for a tag")
	}
	for _, label := range []string{"com.amazonaws.ecs.task-arn", "com.docker.compose.project", "com.docker.compose.oneoff"} {
		if got := key("shop", label, "x"); got != "" {
			t.Errorf("%s: %s", label, got)
		}
	}
	for _, label := range []string{"org.opencontainers.image.revision", "org.label-schema.vcs-ref", "maintainer"} {
		if key("shop:2", label, "x") != is {
			t.Errorf("a build that says %s is another service", label)
		}
	}
	if key("shop", "com.gitlab.gitlab-runner.job.id", "7") == is {
		t.Error("a job of CI counts as the same service")
	}
	if ServiceKey("shop", labels, map[string]string{"nagaya.host": "b.test"}, nil) == is || ServiceKey("shop", labels, map[string]string{"nagaya.host": "a.test"}, map[string]string{"VIRTUAL_PORT": "1"}) == is {
		t.Error("words do not count")
	}
}
