package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sampan-batch/sampan/internal/disk"
)

// LoadKey reads the key that signs tokens, and makes one (ECDSA P-256, mode 0600) where there is none
// or what is there is no such key: who has a token needs another then. On a full disk a new key
// serves without being kept.
func LoadKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if err == nil {
		return key, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("read the key of tokens: %w", err)
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make the key of tokens: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the key of tokens: %w", err)
	}
	err = disk.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err != nil && !disk.NoRoom(err) {
		return nil, fmt.Errorf("write the key of tokens: %w", err)
	}
	return key, nil
}

// CheckKey returns why LoadKey would not use what is at path; nil if it would.
func CheckKey(path string) error {
	_, err := readKey(path)
	return err
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is no PEM")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("it is of curve %s, not P-256", key.Curve.Params().Name)
	}
	return key, nil
}
