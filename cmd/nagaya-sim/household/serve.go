package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// service is a small service and its manners.
type service struct {
	name, listen  string
	secure        bool
	delay, linger time.Duration
	abrupt        bool
	slow          time.Duration
	hostile       string
	line          string
}

// run serves until ctx ends, and then ends as it is told to.
func (o service) run(ctx context.Context) error {
	failed := make(chan error, 3)
	if o.line != "" {
		if err := o.serveLines(failed); err != nil {
			return err
		}
	}
	end := func(context.Context) error { return nil }
	if o.listen != "" {
		l, err := net.Listen("tcp", o.listen)
		if err != nil {
			return err
		}
		if o.hostile != "" {
			go func() { failed <- annoy(l, o.hostile) }()
		} else if end, err = o.serveHTTP(l, failed); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	if o.abrupt {
		os.Exit(0)
	}
	time.Sleep(o.linger)
	within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := end(within); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// serveHTTP serves HTTP/1.1 and HTTP/2, with or without TLS. The function that it
// returns finishes what is under way.
func (o service) serveHTTP(l net.Listener, failed chan<- error) (func(context.Context) error, error) {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: o.routes(time.Now()), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	if o.secure {
		cert, err := selfSigned(o.name)
		if err != nil {
			return nil, err
		}
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		go func() { failed <- s.ServeTLS(l, "", "") }()
	} else {
		go func() { failed <- s.Serve(l) }()
	}
	return s.Shutdown, nil
}

// routes answers everything, and says since when it listens.
func (o service) routes(since time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/grpc.echo/", unary)
	mux.HandleFunc("/socket", webSocket)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(o.slow)
		fmt.Fprintf(w, "%s answers %s %s%s (from %s, over %s)\n", o.name, r.Method, r.Host, r.URL.Path,
			r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Household", o.name)
		w.Header().Set("X-Household-Since", strconv.FormatInt(since.UnixNano(), 10))
		mux.ServeHTTP(w, r)
	})
}
