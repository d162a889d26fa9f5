// Household is the sample tenant of the demonstration and the end-to-end tests:
// one static program that plays a small service or a batch, well or badly.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	var (
		name   = flag.String("name", "household", "what answers say")
		listen = flag.String("listen", ":8080", "where to serve; empty serves nowhere and waits")
		secure = flag.Bool("tls", false, "speak HTTPS with a certificate made at start")
		delay  = flag.Duration("delay", 0, "wait so long before listening")
		linger = flag.Duration("linger", 0, "go on serving so long after SIGTERM")
		exit   = flag.Int("exit", -1, "exit at once with this code")
		burn   = flag.Duration("burn", 0, "use one processor fully for so long, then exit")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch {
	case *exit >= 0:
		log.Printf("%s: exiting with %d", *name, *exit)
		os.Exit(*exit)
	case *burn > 0:
		work(ctx, *burn)
	case *listen == "":
		<-ctx.Done()
	default:
		time.Sleep(*delay)
		if err := serve(ctx, *name, *listen, *secure, *linger); err != nil {
			log.Fatal(err)
		}
	}
}

// work keeps one processor busy.
func work(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	for n := 0; ctx.Err() == nil && time.Now().Before(end); n++ {
		for range 100_000 {
			n ^= n << 1
		}
	}
}

func serve(ctx context.Context, name, listen string, secure bool, linger time.Duration) error {
	s := &http.Server{
		Addr: listen, ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Household", name)
			fmt.Fprintf(w, "%s answers %s %s%s (from %s, over %s)\n", name, r.Method, r.Host, r.URL.Path,
				r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
		}),
	}
	failed := make(chan error, 1)
	go func() {
		if !secure {
			failed <- s.ListenAndServe()
			return
		}
		cert, err := selfSigned(name)
		if err != nil {
			failed <- err
			return
		}
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		failed <- s.ListenAndServeTLS("", "")
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	time.Sleep(linger)
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
