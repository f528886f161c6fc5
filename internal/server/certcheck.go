package server

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/sampan-batch/sampan/internal/server/identity"
)

// CertStatus is what is known of one of the certificates of a directory.
type CertStatus struct {
	Name    string    `json:"name"`
	Expires time.Time `json:"expires,omitzero"`
	// Problem is what is wrong with it; Note what will be, or what New mends.
	Problem string `json:"problem,omitempty"`
	Note    string `json:"note,omitempty"`
}

// CheckCerts looks at the certificates in dir without changing anything.
func CheckCerts(dir string, now time.Time) []CertStatus {
	var all []CertStatus
	var ca *keyPair
	for _, name := range []string{"ca", "apiserver", "admin"} {
		st := CertStatus{Name: name}
		pair, err := readPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			st.Note = "it is missing, or its key is: the next start makes a new one"
		case err != nil:
			st.Problem = fmt.Sprintf("it cannot be read: %v", err)
		default:
			st.judge(pair, ca, now)
			if name == "ca" {
				ca = pair
			}
		}
		if name == "ca" && (st.Problem != "" || err != nil) {
			st.Note, st.Problem = "", st.Problem+st.Note+"; no kubeconfig that is in use will work then"
		}
		all = append(all, st)
	}
	return all
}

// CheckTokenKey returns why the key of tokens in dir will not be used on; nil if it will, or if there
// is none yet.
func CheckTokenKey(dir string) error {
	err := identity.CheckKey(filepath.Join(dir, tokenKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (st *CertStatus) judge(pair, ca *keyPair, now time.Time) {
	st.Expires = pair.cert.NotAfter
	life := pair.cert.NotAfter.Sub(pair.cert.NotBefore)
	switch {
	case now.After(pair.cert.NotAfter):
		st.Problem = "it has expired"
	case now.Before(pair.cert.NotBefore):
		st.Problem = fmt.Sprintf("it is not valid before %s: is the clock right?", pair.cert.NotBefore.Format(time.DateOnly))
	case ca != nil && pair.cert.CheckSignatureFrom(ca.cert) != nil:
		st.Problem = "it was not signed by the authority that is there"
	case now.After(pair.cert.NotAfter.Add(-life / renewShare)):
		st.Note = "it is near its end: the next start renews it"
	}
}
