package index_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"packhouse/index"
)

// What the kernel's userfaultfd knows, from linux/userfaultfd.h.
const (
	uffdAPI        = 0xAA
	uffdMinorShmem = 1 << 10
	uffdModeMinor  = 1 << 2
	uffdioAPI      = 0xc018aa3f
	uffdioRegister = 0xc020aa00
)

// holdFaults lets every access to memory that is mapped but not in the page table wait, as one to a page of a disk that does not answer,
// until release is called.
func holdFaults(t *testing.T, memory []byte) (release func()) {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		t.Skipf("userfaultfd, which takes root: %v", errno)
	}
	end := sync.OnceFunc(func() { _ = unix.Close(int(fd)) })
	t.Cleanup(end)
	control := func(request uintptr, argument unsafe.Pointer) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(argument)); errno != 0 {
			return errno
		}
		return nil
	}
	api := [3]uint64{uffdAPI, uffdMinorShmem}
	if err := control(uffdioAPI, unsafe.Pointer(&api)); err != nil {
		t.Skipf("userfaultfd does not know files in memory: %v", err)
	}
	start, size := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))), uint64(len(memory))
	register := [4]uint64{start, size, uffdModeMinor}
	if err := control(uffdioRegister, unsafe.Pointer(&register)); err != nil {
		t.Skipf("userfaultfd: %v", err)
	}
	// The pages stay in memory, but each must be looked up again.
	if err := unix.Madvise(memory, unix.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	return end
}

// TestPageThatDoesNotCome: while a page of the index waits for the disk, everything else in the process goes on, also the garbage
// collection, which stops all goroutines for a moment. (If it does not, this test hangs.)
func TestPageThatDoesNotCome(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-index-")
	if err != nil {
		t.Skipf("a file in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x := open(t, path, index.Options{})
	var puts []index.Mutation
	for i := range 2000 {
		puts = append(puts, put(fmt.Sprintf("key%04d", i), 1))
	}
	apply(t, x, puts...)
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	x.ForgetResident()
	release := holdFaults(t, x.Mapping())
	got := make(chan error, 1)
	go func() {
		// What waits for a disk is not woken by signals, by which the runtime stops goroutines.
		runtime.LockOSThread() // and the thread ends with the goroutine
		urgent := unix.Sigset_t{}
		urgent.Val[0] = 1 << (unix.SIGURG - 1)
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &urgent, nil); err != nil {
			got <- err
			return
		}
		_, err := x.Get("key1000")
		got <- err
	}()
	time.Sleep(100 * time.Millisecond)
	select {
	case err := <-got:
		t.Errorf("a read did not wait for its page: %v", err)
	default:
	}
	runtime.GC()
	release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}
