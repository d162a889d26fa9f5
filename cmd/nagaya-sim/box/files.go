package box

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// File is what is put into a box.
type File struct {
	Content []byte
	// Mode is the file's permission bits; 0 is 0644.
	Mode int64
}

// mode is that of a file that says none.
func (f File) mode() int64 { return cmp.Or(f.Mode, 0o644) }

// Text is a file of that text.
func Text(s string) File { return File{Content: []byte(s)} }

//go:embed boot.sh
var bootScript string

// root is what every box has besides its Debian.
//
//go:embed root
var root embed.FS

// The sample image's file in a box, and its name on the box's engine.
const (
	sampleTar = "/usr/local/share/household.tar"
	// Sample is the image of the sample services: household and its arguments.
	Sample = "household"
)

// Task is what ECS gives docker run for a service of that family on the host.
func Task(family, host string) []string {
	return []string{
		"-P", "--expose=8080", "--label=nagaya.host=" + host, "--label=com.amazonaws.ecs.task-definition-family=" + family,
		"--label=com.amazonaws.ecs.task-definition-version=1", "--label=com.amazonaws.ecs.container-name=web", Sample, "-name", family,
	}
}

// files are those of a box at its launch.
func (b *Box) files(l Launch) (map[string]File, error) {
	all := map[string]File{}
	err := fs.WalkDir(root, "root", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := File{}
		if strings.Contains(path, "/libexec/") {
			f.Mode = 0o755
		}
		f.Content, err = root.ReadFile(path)
		all[strings.TrimPrefix(path, "root")] = f
		return err
	})
	if err != nil {
		return nil, err
	}
	certs := os.DirFS(b.set.dir)
	for _, pattern := range []string{"ca.crt", "certs/*"} {
		found, err := fs.Glob(certs, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			content, err := fs.ReadFile(certs, name)
			if err != nil {
				return nil, err
			}
			all["/etc/nagaya/"+name] = File{content, 0o640}
		}
	}
	image, err := stage.Image(b.set.bin)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(image)
	if err != nil {
		return nil, err
	}
	all[sampleTar] = File{Content: content}
	e := b.set.Cloud.Endpoints()
	env := b.env()
	slices.Sort(env)
	all["/etc/systemd/system.conf.d/box.conf"] = Text("[Manager]\nDefaultEnvironment=" + strings.Join(env, " ") + "\n")
	all["/etc/ecs/box"] = Text(fmt.Sprintf("CONTROL=%s\nINTROSPECTION=%s\nINSTANCE=%s\nIMAGE=%s\nTAR=%s\nCONFIG='%s'\n",
		e.Control, strings.TrimPrefix(e.ECSAgent[b.InstanceID], "http://"), b.InstanceID, Sample, sampleTar, stage.ImageConfig))
	for name, args := range l.Tasks {
		all["/etc/ecs/tasks/"+name] = Text(strings.Join(args, "\n") + "\n")
	}
	maps.Copy(all, l.Files)
	return all, nil
}

// Put puts files into the box, with the directories that they are in.
func (b *Box) Put(ctx context.Context, files map[string]File) error {
	var t bytes.Buffer
	w := tar.NewWriter(&t)
	made := map[string]bool{"/": true}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		var dirs []string
		for dir := filepath.Dir(path); !made[dir]; dir = filepath.Dir(dir) {
			made[dir] = true
			dirs = append(dirs, dir)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		f := files[path]
		if err := w.WriteHeader(&tar.Header{Name: path[1:], Mode: f.mode(), Size: int64(len(f.Content))}); err != nil {
			return err
		}
		if _, err := w.Write(f.Content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := b.set.docker.CopyToContainer(ctx, b.id, client.CopyToContainerOptions{DestinationPath: "/", Content: &t})
	return err
}

// plain is the text of a container's log.
func plain(r io.Reader) string {
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, r); err != nil {
		return out.String() + err.Error()
	}
	return out.String()
}
