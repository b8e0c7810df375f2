package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the processor time that the process has had since its start, of all its threads, also of those that have ended.
func (p *process) cpu() (CPU, error) {
	total, err := processTime(p.cmd.Process.Pid)
	if err != nil {
		return CPU{}, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	user, system, err := ticks(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return CPU{}, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	if user+system == 0 {
		return CPU{User: total}, nil
	}
	// The clock counts nanoseconds, but only the hundredths of a second say what of them the kernel used.
	share := float64(system) / float64(user+system)
	return CPU{User: total * (1 - share), System: total * share}, nil
}

// processTime reads the clock of another process in seconds. The number is made as clock_getcpuclockid(3) makes it.
func processTime(pid int) (float64, error) {
	const scheduler = 2 // CPUCLOCK_SCHED: as the scheduler counts, in nanoseconds
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(t.Nano()).Seconds(), nil
}

// ticks reads user and system time of a process, in hundredths of a second.
func ticks(stat string) (user, system int64, err error) {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0, 0, err
	}
	_, rest, ok := bytes.Cut(text, []byte(") ")) // the name may hold blanks; state is the third field, user time the 14th
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, 0, fmt.Errorf("%s has another form", stat)
	}
	if user, err = strconv.ParseInt(string(fields[11]), 10, 64); err == nil {
		system, err = strconv.ParseInt(string(fields[12]), 10, 64)
	}
	return user, system, err
}

// ownCPU is the processor time of this process.
func ownCPU() (CPU, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return CPU{}, os.NewSyscallError("getrusage", err)
	}
	seconds := func(t unix.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }
	return CPU{User: seconds(u.Utime), System: seconds(u.Stime)}, nil
}

func (c CPU) minus(d CPU) CPU {
	// Of a short time the parts are estimates, and may go back.
	return CPU{User: max(0, c.User-d.User), System: max(0, c.System-d.System)}
}

// peakMemory is the most resident memory that the process ever had, in bytes. Pages of a file that it maps, such as
// its index, are part of it, although the system takes them back when it needs them.
func (p *process) peakMemory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", p.name, err)
	}
	_, rest, _ := bytes.Cut(text, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Sscanf(string(rest), "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("memory of %s: %w", p.name, err)
	}
	return kib << 10, nil
}

// machineIdle is how long the machine's cores together were idle since its start, waiting for disks included, and how many
// cores there are. The kernel counts idle time exactly, but busy time by samples.
func machineIdle() (idle float64, cores int, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	var user, nice, system, rest, wait int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d", &user, &nice, &system, &rest, &wait); err != nil {
		return 0, 0, fmt.Errorf("/proc/stat: %w", err)
	}
	return float64(rest+wait) / 100, bytes.Count(text, []byte("\ncpu")), nil
}

// kernelThreads is the processor time of the kernel's own threads, in seconds: they write what we made them write.
func kernelThreads() (float64, error) {
	total := int64(0)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if name := entry.Name(); name[0] < '0' || name[0] > '9' {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := bytes.Cut(text, []byte(") "))
		if fields := bytes.Fields(rest); len(fields) > 12 && string(fields[1]) == "2" { // children of kthreadd
			system, err := strconv.ParseInt(string(fields[12]), 10, 64)
			if err != nil {
				return 0, err
			}
			total += system
		}
	}
	return float64(total) / 100, nil
}
