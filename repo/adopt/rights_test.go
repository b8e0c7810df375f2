package adopt_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/adopt"
)

// asOther names the variable by which a test has a process of another user adopt a directory: that, and the data directory.
const asOther = "PACKHOUSE_TEST_ADOPT"

// nobody is a user who owns nothing on this machine.
const nobody = 65533

// adoptAs has a process of another user adopt a directory, and returns what it says.
func adoptAs(t *testing.T, uid uint32, source, data string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRights$") // whose path another user may not be able to follow
	cmd.Env = append(os.Environ(), asOther+"="+source+"\n"+data)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said := regexp.MustCompile(`(?s)adopt says (.*?)\n(PASS|ok)`).FindStringSubmatch(string(out))
	if said == nil {
		t.Fatalf("it says %s", out)
	}
	return said[1]
}

// TestRights: files that may not be read or linked are told in one line each, with what to do, before anything is done; who owns them adopts them.
func TestRights(t *testing.T) {
	if sides := os.Getenv(asOther); sides != "" {
		source, data, _ := strings.Cut(sides, "\n")
		_, err := adopt.Run(ctx, options(source, data))
		fmt.Println("adopt says", err)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process of another user")
	}
	protected, _ := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	for _, c := range []struct {
		name   string
		change func(source string) error
		uid    uint32
		want   string // "": it is adopted
	}{
		{name: "own", uid: nobody, change: func(source string) error { return chownAll(source, nobody) }},
		{name: "of another", uid: nobody, want: `^10 files cannot be adopted; the first is \S+: its owner is root, and only that user or root can link it: .*\(sudo -u 'root'\)`},
		{name: "one of another", uid: nobody, want: `^config/id: its owner is root, and only`, change: func(source string) error {
			return errors.Join(chownAll(source, nobody), os.Chown(filepath.Join(source, "config", "id"), 0, 0))
		}},
		{name: "not readable", uid: nobody, want: `^config/id: it cannot be read: its owner is root, its mode 0600; run this, and the server, as that user`, change: func(source string) error {
			id := filepath.Join(source, "config", "id")
			return errors.Join(chownAll(source, nobody), os.Chown(id, 0, 0), os.Chmod(id, 0o600))
		}},
		{name: "not readable by its owner", uid: nobody, want: `^config/id: it cannot be read: .* its mode 0000`, change: func(source string) error {
			return errors.Join(chownAll(source, nobody), os.Chmod(filepath.Join(source, "config", "id"), 0))
		}},
		{name: "directory not readable", uid: nobody, want: `^config/: the directory cannot be read: permission denied`, change: func(source string) error {
			return errors.Join(chownAll(source, nobody), os.Chmod(filepath.Join(source, "config"), 0))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.TrimSpace(string(protected)) == "0" && strings.Contains(c.want, "can link it") {
				t.Skip("this kernel lets everybody link what can be read")
			}
			source, data := sides(t)
			smallTree().write(t, source)
			if err := errors.Join(os.Chmod(filepath.Dir(source), 0o755), os.Chown(data, nobody, nobody), readable(source)); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				if err := c.change(source); err != nil {
					t.Fatal(err)
				}
			}
			before := inodes(t, source)
			said := adoptAs(t, c.uid, source, data)
			wantSame(t, "the source", inodes(t, source), before)
			if c.want == "" {
				if said != "<nil>" {
					t.Errorf("got %s", said)
				}
				return
			}
			if !regexp.MustCompile(c.want).MatchString(said) || strings.Contains(said, "\n") {
				t.Errorf("got %s, want %s", said, c.want)
			}
			if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func chownAll(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	})
}

// readable lets everybody read the files of a directory.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o644)
	})
}

// TestKernelRefuses: what the kernel refuses for another reason is told before anything is done; or, of a file in the middle, when its turn comes,
// and then the adoption can be completed.
func TestKernelRefuses(t *testing.T) {
	for _, c := range []struct {
		nth  int
		want string
	}{{1, "the kernel refuses to link it: run this, and the server, as the user whom the directory belongs to (sudo -u), or as root"}, {3, "it may have the attribute immutable or append-only (lsattr, chattr)"}} {
		source, data := sides(t)
		items := smallTree()
		items.write(t, source)
		before := inodes(t, source)
		fsys := vfstest.NewFailing(vfs.OS())
		fsys.FailOp(vfstest.Link, c.nth, vfstest.Before, &os.LinkError{Op: "link", Err: syscall.EPERM})
		o := options(source, data)
		o.FS = fsys
		if _, err := adopt.Run(ctx, o); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("link %d: got %v", c.nth, err)
		}
		wantSame(t, "the source", inodes(t, source), before)
		if left, err := os.ReadDir(data); err != nil || c.nth == 1 && len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		mustAdopt(t, options(source, data))
		wantBlobs(t, data, len(items))
	}
}
