package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

// What forgers of tokens need.

func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// hmacOf signs with a public key as if it were a secret.
func hmacOf(alg string, secret []byte, text string) []byte {
	hash := map[string]crypto.Hash{"HS384": crypto.SHA384, "HS512": crypto.SHA512}[alg]
	if hash == 0 {
		hash = crypto.SHA256
	}
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// publicForms are the forms in which a public key may be lying around.
func publicForms(t testing.TB, key *ecdsa.PublicKey) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "the point": point, "nothing": {},
	}
}

func pemOf(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
