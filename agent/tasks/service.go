package tasks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// orchestrators are the beginnings of the labels by which others than "docker run" know their
// containers, which their users cannot take off.
var orchestrators = []string{"com.amazonaws.ecs.", "com.docker.compose."}

// ofImage are the beginnings of the labels by which an image tells of itself and of its build: one more of
// them makes no other service of it. https://github.com/opencontainers/image-spec/blob/main/annotations.md
var ofImage = []string{"org.opencontainers.image.", "org.label-schema.", "maintainer"}

// ServiceKey returns what is equal for containers of "docker run" that run one service: the image's
// repository, without tag and digest, the names of all labels but those of the image itself, and
// the words that are kept, with their values. It is empty for containers of ECS and Compose, which say
// themselves what they are of.
// The names of all labels keep those apart that another program starts and marks, such as a job of CI.
func ServiceKey(image string, labels, kept, env map[string]string) string {
	names := slices.Sorted(maps.Keys(labels))
	begins := func(with []string) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(name, w) })
		}
	}
	if slices.ContainsFunc(names, begins(orchestrators)) {
		return ""
	}
	names = slices.DeleteFunc(names, begins(ofImage))
	text, _ := json.Marshal([]any{repository(image), names, kept, env}) // plain values
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// repository is an image's name without tag and digest, and without what Docker adds to a
// short one. An image that is named by its id stays as it is.
func repository(image string) string {
	if strings.HasPrefix(image, "sha256:") {
		return image
	}
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
}
