//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestImage builds the container image and runs its command in its files, which are nothing but the program, as its user: the server
// starts, its health check finds it, and fails when it is gone.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		leave(t, "running a program in the files of an image needs root")
	}
	buildah := need(t, "buildah")
	dir := t.TempDir()
	program := filepath.Join(dir, "packhouse")
	build := exec.Command("go", "build", "-o", program, "packhouse/cmd/packhouse")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a static program: %v\n%s", err, out)
	}
	own := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}
	image := exec.Command("../scripts/image.sh", "packhouse:test")
	image.Env = append(os.Environ(), "BUILDER="+buildah+" "+strings.Join(own, " "), "PACKHOUSE_BINARY="+program, "VERSION=v1.0.0")
	if out, err := image.CombinedOutput(); err != nil {
		t.Fatalf("scripts/image.sh: %v\n%s", err, out)
	}

	var inspected struct {
		Docker struct {
			Config struct {
				User        string
				Entrypoint  []string
				Cmd         []string
				Volumes     map[string]struct{}
				Healthcheck struct{ Test []string }
			} `json:"config"`
		}
	}
	text := mustRun(t, buildah, append(own, "inspect", "--type", "image", "packhouse:test")...)
	if err := json.Unmarshal(text, &inspected); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	config := inspected.Docker.Config
	if _, ok := config.Volumes["/data"]; !ok || config.User != "65532:65532" || len(config.Healthcheck.Test) < 2 || config.Healthcheck.Test[0] != "CMD" {
		t.Fatalf("got %+v", config)
	}

	output := func(args ...string) string {
		out, err := exec.Command(buildah, append(own, args...)...).Output() // warnings go elsewhere
		if err != nil {
			t.Fatalf("buildah %q: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	root := output("mount", output("from", "packhouse:test"))
	t.Cleanup(func() { mustRun(t, buildah, append(own, "rm", "--all")...) })
	if names := namesIn(t, root); !slices.Equal(names, []string{"data", "packhouse"}) {
		t.Errorf("got the files %q, want the program and the directory of the data", names)
	}
	if got := strings.TrimSpace(string(mustRun(t, "stat", "-c", "%a %u %g", filepath.Join(root, "data")))); got != "700 65532 65532" {
		t.Errorf("mode, user and group of the directory of the data: got %s, want 700 65532 65532", got)
	}
	inside := func(command []string) *exec.Cmd {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir, cmd.Env = "/", []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}
	healthy := func(code int) bool {
		cmd := inside(config.Healthcheck.Test[1:])
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Logf("health check: got %d, %v, %s", got, err, out)
			return false
		}
		return true
	}
	if !healthy(2) {
		t.Error("the health check finds a server before one runs")
	}
	command := append(config.Entrypoint, config.Cmd...)
	for i := range command {
		command[i] = strings.Replace(command[i], ":8484", "127.0.0.1:0", 1)
	}
	server := inside(command)
	var log strings.Builder
	server.Stderr = &log
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	banner := make([]byte, 1) // it is printed when the server is about to answer
	if _, err := out.Read(banner); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if !healthy(0) {
		t.Errorf("the health check fails while the server runs")
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("the server: %v\n%s", err, &log)
	}
	if !healthy(2) {
		t.Error("the health check finds a server that has ended")
	}
	if info, err := os.Stat(filepath.Join(root, "data", ".packhouse", "token")); err != nil || info.Sys().(*syscall.Stat_t).Uid != 65532 {
		t.Errorf("the token in the volume: got %v, %v", info, err)
	}
}
