package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// terminal is a screen that a verb has for itself until it is restored. Lines that are too long are cut by it.
type terminal struct {
	out *os.File
	// keys has each byte that is typed, and is closed when no more can come.
	keys chan byte
	// resized has a value after the size has changed.
	resized chan os.Signal
	was     *unix.Termios
}

const (
	// An alternate screen without a cursor, which does not wrap lines; and all of that back. Where there is no alternate
	// one, as in screen(1) by default, what comes next begins on a line of its own.
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leaveScreen = "\n\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// takeTerminal takes a terminal over. Keys are read from in without waiting for the end of a line if that is a terminal as
// well; Ctrl-C is a signal still, and Ctrl-Z, which would leave the terminal as it is, does nothing.
func takeTerminal(out, in *os.File) (*terminal, error) {
	t := &terminal{out: out, keys: make(chan byte), resized: make(chan os.Signal, 1)}
	if was, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
		raw := *was
		raw.Lflag &^= unix.ICANON | unix.ECHO
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME], raw.Cc[unix.VSUSP] = 1, 0, 0
		if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw); err != nil {
			return nil, err
		}
		t.was = was
		go t.read(in)
	}
	signal.Notify(t.resized, unix.SIGWINCH)
	if _, err := out.WriteString(enterScreen); err != nil {
		t.restore(in)
		return nil, err
	}
	return t, nil
}

// read ends when the terminal does, or with the process.
func (t *terminal) read(in *os.File) {
	defer close(t.keys)
	for b := make([]byte, 1); ; {
		if n, err := in.Read(b); n == 0 || err != nil {
			return
		}
		t.keys <- b[0]
	}
}

// restore leaves the terminal as it was found.
func (t *terminal) restore(in *os.File) {
	signal.Stop(t.resized)
	_, _ = t.out.WriteString(leaveScreen) // it may be gone
	if t.was != nil {
		_ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, t.was)
	}
}

// size is 80 columns and 24 rows where the terminal does not say.
func (t *terminal) size() (columns, rows int) {
	columns, rows = sizeOf(t.out)
	if columns == 0 || rows == 0 {
		return 80, 24
	}
	return columns, rows
}

// sizeOf is that of a terminal; 0 of what is none, or does not say.
func sizeOf(f *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
