package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credentials maps registries, as a docker configuration names them, to what
// they are to be shown.
type Credentials map[string]authn.AuthConfig

// ParseCredentials reads the content of a Secret of type
// kubernetes.io/dockerconfigjson, or of the older kubernetes.io/dockercfg.
func ParseCredentials(data []byte) (Credentials, error) {
	type login struct {
		Username, Password, Auth, IdentityToken, RegistryToken string
	}
	var file struct {
		Auths map[string]login `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("not a docker configuration: %w", err)
	}
	if file.Auths == nil {
		if err := json.Unmarshal(data, &file.Auths); err != nil {
			return nil, fmt.Errorf("not a docker configuration: %w", err)
		}
	}
	creds := Credentials{}
	for registry, l := range file.Auths {
		c := authn.AuthConfig{
			Username: l.Username, Password: l.Password,
			IdentityToken: l.IdentityToken, RegistryToken: l.RegistryToken,
		}
		if l.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(l.Auth)
			if err != nil {
				return nil, fmt.Errorf("docker configuration: auth of %s: %w", registry, err)
			}
			c.Username, c.Password, _ = strings.Cut(string(plain), ":")
		}
		creds[registry] = c
	}
	return creds, nil
}

// keychain looks a registry up in several Credentials, the first match wins.
type keychain []Credentials

// Resolve implements authn.Keychain.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	best, length := authn.Anonymous, -1
	for _, creds := range k {
		for registry, c := range creds {
			if n := matches(registry, r); n > length {
				best, length = authn.FromConfig(c), n
			}
		}
	}
	return best, nil
}

// matches returns how long the part of the resource is that registry, as
// written in a docker configuration, covers; -1 if it does not.
func matches(registry string, r authn.Resource) int {
	if u, err := url.Parse(registry); err == nil && u.Host != "" {
		registry = u.Host + u.Path
	}
	host, path, _ := strings.Cut(registry, "/")
	path = strings.Trim(path, "/")
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = "index.docker.io"
	}
	if host == "index.docker.io" && (path == "v1" || path == "v2") {
		path = ""
	}
	if host != r.RegistryStr() {
		return -1
	}
	prefix := strings.TrimSuffix(host+"/"+path, "/")
	if full := r.String(); full == prefix || strings.HasPrefix(full, prefix+"/") {
		return len(prefix)
	}
	return -1
}
