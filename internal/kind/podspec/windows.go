package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	controlChars = regexp.MustCompile(`[[:cntrl:]]+`)
	// netBIOSName has up to 15 characters and does not begin with a dot.
	netBIOSName = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain   = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?` +
		`(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	badUserChars = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	dotsOrSpaces = regexp.MustCompile(`^[\. ]+$`)
)

// windowsOptions checks the user and the credentials of a Windows container. Messages
// show pointers: their value is quoted as in JSON then, not as in Go.
func (c *checker) windowsOptions(path *field.Path, o *corev1.WindowsSecurityContextOptions) {
	const maxCredentialKiB = 64
	if o == nil {
		return
	}
	if name := o.GMSACredentialSpecName; name != nil {
		c.invalidEach(path.Child("gmsaCredentialSpecName"), name, validation.IsDNS1123Subdomain(*name))
	}
	if spec := o.GMSACredentialSpec; spec != nil {
		at := path.Child("gmsaCredentialSpec")
		if *spec == "" {
			c.invalid(at, spec, "gmsaCredentialSpec cannot be an empty string")
		} else if len(*spec) > maxCredentialKiB*1024 {
			c.invalid(at, spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", maxCredentialKiB))
		}
	}
	if o.RunAsUserName != nil {
		c.windowsUser(path.Child("runAsUserName"), o.RunAsUserName)
	}
}

// windowsUser checks [DOMAIN\]USER.
func (c *checker) windowsUser(path *field.Path, name *string) {
	const maxDomain, maxUser = 256, 104
	domain, user, hasDomain := strings.Cut(*name, `\`)
	if !hasDomain {
		domain, user = "", *name
	}
	switch {
	case *name == "":
		c.invalid(path, name, "runAsUserName cannot be an empty string")
		return
	case controlChars.MatchString(*name):
		c.invalid(path, name, "runAsUserName cannot contain control characters")
		return
	case strings.Contains(user, `\`):
		c.invalid(path, name, "runAsUserName cannot contain more than one backslash")
		return
	}
	if len(domain) >= maxDomain {
		c.invalid(path, name, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxDomain))
	}
	if hasDomain && !netBIOSName.MatchString(domain) && !dnsDomain.MatchString(domain) {
		c.invalid(path, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	if user == "" {
		c.invalid(path, name, "runAsUserName's User cannot be empty")
	} else if len(user) > maxUser {
		c.invalid(path, name, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxUser))
	}
	if dotsOrSpaces.MatchString(user) {
		c.invalid(path, name, `runAsUserName's User cannot contain only periods or spaces`)
	}
	if badUserChars.MatchString(user) {
		c.invalid(path, name, `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
}
