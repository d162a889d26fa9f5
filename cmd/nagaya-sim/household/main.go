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
	"flag"
	"log"
	"math/big"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	var (
		o    = service{}
		exit = flag.Int("exit", -1, "exit at once with this code")
		burn = flag.Duration("burn", 0, "use one processor fully for so long, then exit")
	)
	flag.StringVar(&o.name, "name", "household", "what answers say")
	flag.StringVar(&o.listen, "listen", ":8080", "where to serve; empty serves nowhere and waits")
	flag.BoolVar(&o.secure, "tls", false, "speak HTTPS with a certificate made at start")
	flag.DurationVar(&o.delay, "delay", 0, "wait so long before listening")
	flag.DurationVar(&o.linger, "linger", 0, "go on serving so long after SIGTERM")
	flag.BoolVar(&o.abrupt, "abrupt", false, "end at once on SIGTERM, whatever is under way")
	flag.DurationVar(&o.slow, "slow", 0, "take so long for every answer")
	flag.StringVar(&o.hostile, "hostile", "", "answer badly: silent, reset, garbage or flood")
	flag.StringVar(&o.line, "line", "", "where to answer lines over TCP and datagrams over UDP too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch {
	case *exit >= 0:
		log.Printf("%s: exiting with %d", o.name, *exit)
		os.Exit(*exit)
	case *burn > 0:
		work(ctx, *burn)
	case o.listen == "" && o.line == "":
		<-ctx.Done()
	default:
		time.Sleep(o.delay)
		if err := o.run(ctx); err != nil {
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
