package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/sampan-batch/sampan/internal/disk"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// A certificate is renewed when less than this share of its life is left.
	renewShare = 4
)

// keyPair is a certificate with its private key, both also as PEM.
type keyPair struct {
	cert    *x509.Certificate
	key     crypto.Signer
	certPEM []byte
	keyPEM  []byte
}

// certs are the certificates of one server: its own authority, what it serves
// with, and what the administrator's kubeconfig carries.
type certs struct {
	ca, serving, admin *keyPair
	// frontProxy returns the pair by which other servers know that this one forwards a
	// request, and its authority: another one, since it vouches for whatever the headers
	// say. They are made when they are first needed.
	frontProxy func() (*frontProxy, error)
}

// loadCerts reads the certificates in dir and makes those that are absent,
// unreadable, near expiry or not for host. Files are 0600, dir is 0700.
func loadCerts(dir, host string, now time.Time) (*certs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("server: certificates: %w", err)
	}
	// A directory that was there before may be open to others.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("server: certificates: %w", err)
	}
	ca, err := loadPair(dir, "ca", nil, caTemplate("sampan-ca"), now)
	if err != nil {
		return nil, err
	}
	serving, err := loadPair(dir, "apiserver", ca, servingTemplate(host), now)
	if err != nil {
		return nil, err
	}
	admin, err := loadPair(dir, "admin", ca, adminTemplate(), now)
	if err != nil {
		return nil, err
	}
	return &certs{ca: ca, serving: serving, admin: admin, frontProxy: sync.OnceValues(func() (*frontProxy, error) { return loadFrontProxy(dir, now) })}, nil
}

// frontProxy is a pair of a client and its authority.
type frontProxy struct{ ca, client *keyPair }

func loadFrontProxy(dir string, now time.Time) (*frontProxy, error) {
	ca, err := loadPair(dir, "front-proxy-ca", nil, caTemplate("front-proxy-ca"), now)
	if err != nil {
		return nil, err
	}
	client, err := loadPair(dir, frontProxyClient, ca, clientTemplate(pkix.Name{CommonName: frontProxyClient}), now)
	if err != nil {
		return nil, err
	}
	return &frontProxy{ca, client}, nil
}

// frontProxyClient is the name in the certificate, as kubeadm gives it.
const frontProxyClient = "front-proxy-client"

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
}

func servingTemplate(host string) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "sampan-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 96, 0, 1)}, // the last: the Service "kubernetes"
	}
	if ip := net.ParseIP(host); ip == nil && host != "" && host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	} else if ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	return t
}

func adminTemplate() *x509.Certificate {
	return clientTemplate(pkix.Name{CommonName: "kubernetes-admin", Organization: []string{user.SystemPrivilegedGroup}})
}

func clientTemplate(subject pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		Subject:     subject,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// loadPair returns the pair name.crt, name.key of dir if it still serves, else
// a new one. ca is nil for the authority itself.
func loadPair(dir, name string, ca *keyPair, template *x509.Certificate, now time.Time) (*keyPair, error) {
	certPath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	old, err := readPair(certPath, keyPath)
	if err == nil && old.serves(ca, template, now) {
		return old, nil
	}
	if err != nil && errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("server: read certificate %s: %w", name, err)
	}
	pair, err := makePair(ca, template, now)
	if err != nil {
		return nil, fmt.Errorf("server: make certificate %s: %w", name, err)
	}
	// The key first: a certificate without its key is made again.
	err = writePrivate(keyPath, pair.keyPEM)
	if err == nil {
		err = writePrivate(certPath, pair.certPEM)
	}
	switch {
	case err == nil:
		return pair, nil
	case ca != nil && disk.NoRoom(err):
		return pair, nil // it serves without being kept: the next start makes another
	case old != nil && old.cert.IsCA && now.Before(old.cert.NotAfter) && disk.NoRoom(err):
		return old, nil // near its end, but not at it
	case disk.NoRoom(err):
		return nil, fmt.Errorf("server: write certificate %s: %w: make room on the file system of %s", name, err, dir)
	}
	return nil, fmt.Errorf("server: write certificate %s: %w", name, err)
}

func readPair(certPath, keyPath string) (*keyPair, error) {
	certPEM, err := os.ReadFile(certPath)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, err
	}
	// X509KeyPair also checks that the two belong together.
	both, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	signer, ok := both.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("private key cannot sign")
	}
	return &keyPair{cert: both.Leaf, key: signer, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// serves reports whether the pair can be used on: signed by ca, not near its
// end, and for the names that template asks for.
func (p *keyPair) serves(ca *keyPair, template *x509.Certificate, now time.Time) bool {
	life := p.cert.NotAfter.Sub(p.cert.NotBefore)
	if now.Before(p.cert.NotBefore) || now.After(p.cert.NotAfter.Add(-life/renewShare)) {
		return false
	}
	if ca == nil {
		return p.cert.IsCA
	}
	if p.cert.CheckSignatureFrom(ca.cert) != nil {
		return false
	}
	for _, name := range template.DNSNames {
		if p.cert.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, ip := range template.IPAddresses {
		if p.cert.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return p.cert.Subject.String() == template.Subject.String()
}

func makePair(ca *keyPair, template *x509.Certificate, now time.Time) (*keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// Clocks of this machine may be set back a little after the first start.
	template.NotBefore = now.Add(-24 * time.Hour).UTC()
	lifetime, parent, signer := leafLifetime, template, crypto.Signer(key)
	if ca == nil {
		lifetime = caLifetime
	} else {
		parent, signer = ca.cert, ca.key
	}
	template.NotAfter = now.Add(lifetime).UTC()

	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &keyPair{
		cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// writePrivate replaces the file at path, readable by its owner only.
func writePrivate(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return disk.Replace(path, data)
}
