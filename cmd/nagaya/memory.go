package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// giveBack returns to the system what the start took: freed heap, and the pages of
// the program itself that only the start has needed, a quarter of all that the agent
// holds. Those are read from its file again when they are wanted (madvise(2),
// MADV_DONTNEED).
func giveBack() error {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return fmt.Errorf("/proc/self/maps: %w", err)
		}
		// What may be written has no file to be read from again.
		if strings.Contains(mode, "w") || !strings.HasSuffix(strings.TrimSpace(line), " "+program) {
			continue
		}
		if _, _, e := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); e != 0 {
			errs = append(errs, fmt.Errorf("madvise of %x-%x: %w", from, to, e))
		}
	}
	return errors.Join(errs...)
}
