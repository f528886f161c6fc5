// Command extension is what others extend a cluster with, for stories: a webhook that
// converts custom resources, as the one of Kubernetes' own documentation does, webhooks that
// judge what is written, and the server of an aggregated API.
//
//	extension cert DIR HOST   write ca.crt, tls.crt and tls.key of a server of that name
//	extension convert DIR     serve /convert at port 8443 with the certificate in DIR
//	extension admit DIR       serve /mutate and /validate there
//	extension api DIR         serve greetings.example.com/v1 there
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "cert":
		return writeCert(args[1], args[2])
	case len(args) == 2 && args[0] == "convert":
		http.HandleFunc("/convert", convert)
		return serve(args[1])
	case len(args) == 2 && args[0] == "admit":
		http.HandleFunc("/mutate", mutate)
		http.HandleFunc("/validate", validate)
		return serve(args[1])
	case len(args) == 2 && args[0] == "api":
		return serveAPI(filepath.Join(args[1], "tls.crt"), filepath.Join(args[1], "tls.key"))
	}
	return fmt.Errorf("usage: extension cert DIR HOST | convert DIR | admit DIR | api DIR")
}

func serve(dir string) error {
	return http.ListenAndServeTLS(":8443", filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), nil)
}

// writeCert writes a certificate that is its own authority.
func writeCert(dir, host string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.crt": {Type: "CERTIFICATE", Bytes: cert},
		"tls.key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
