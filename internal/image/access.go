package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// login is what a registry is shown for an image, and what is remembered of that.
type login struct {
	authn.AuthConfig
	// by tells it from others', "" if it is nobody's in particular: no credentials, or the user's own,
	// which every pull has.
	by string
}

// loginFor chooses among the secrets of a pod and the user's own credentials.
func loginFor(ctx context.Context, r name.Reference, secrets []Credentials) (login, error) {
	as, err := authn.Resolve(ctx, keychain(secrets), r.Context())
	secret := err == nil && as != authn.Anonymous
	if err == nil && !secret {
		as, err = authn.Resolve(ctx, authn.DefaultKeychain, r.Context())
	}
	if err != nil {
		return login{}, err
	}
	config, err := authn.Authorization(ctx, as)
	if err != nil {
		return login{}, err
	}
	l := login{AuthConfig: *config}
	if secret {
		l.by, err = fingerprint(r, config)
	}
	return l, err
}

// fingerprint is by what credentials for a repository are known again.
func fingerprint(r name.Reference, config *authn.AuthConfig) (string, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(data, r.Context().Name()...))
	return hex.EncodeToString(sum[:]), nil
}

// mostKnown is how many credentials an image is known to have been had by. Who has another one,
// or one that was forgotten, asks the registry.
const mostKnown = 100

// grown is by which credentials an image may be had, of which old tells, once it was pulled by some.
func grown(old entry, known bool, digest, by string) []string {
	switch {
	case by == "" || known && old.Digest == digest && old.By == nil:
		return nil // everybody's
	case !known || old.Digest != digest:
		return []string{by}
	case slices.Contains(old.By, by):
		return old.By
	}
	list := append(slices.Clone(old.By), by)
	return list[max(0, len(list)-mostKnown):]
}

// MayUse reports whether who has these secrets may use an image that is here without asking its
// registry: everybody may what was loaded by hand, or pulled without secrets; else who has the
// secret of a pull.
func (s *Store) MayUse(ctx context.Context, img *Image, secrets []Credentials) (bool, error) {
	if !img.Private() {
		return true, nil
	}
	r, err := parse(img.Name)
	if err != nil {
		return false, err
	}
	l, err := loginFor(ctx, r, secrets)
	if err != nil {
		return false, pullError(img.Name, err)
	}
	return slices.Contains(img.by, l.by), nil
}

// Private reports whether an image is for those only who have the secret that it was pulled by.
func (img *Image) Private() bool { return img.by != nil }
