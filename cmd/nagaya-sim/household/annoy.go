package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// annoy accepts connections and treats them as no service should.
func annoy(l net.Listener, manner string) error {
	treat, ok := map[string]func(net.Conn){"silent": silent, "reset": reset, "garbage": garbage, "flood": flood}[manner]
	if !ok {
		return fmt.Errorf("-hostile %s: want silent, reset, garbage or flood", manner)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			treat(c)
		}()
	}
}

// silent never answers.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// reset ends the connection without a farewell.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the RST is the point; without it this is a plain close
	}
}

// garbage does not speak HTTP.
func garbage(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("\x00\xff}\n", 1000)) }

// flood sends a header without an end, for a minute.
func flood(c net.Conn) {
	_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
	for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); {
		_, err = io.WriteString(c, "X-Flood: "+strings.Repeat("x", 4000)+"\r\n")
	}
}
