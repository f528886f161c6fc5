package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// projection checks the sources of one projected volume, which share its files.
type projection struct {
	*checker
	path  *field.Path // of the volume: that is where conflicts are reported
	files sets.Set[string]
}

func (c *checker) projected(path *field.Path, s *corev1.ProjectedVolumeSource) {
	c.fileMode(path.Child("defaultMode"), s.DefaultMode)
	c.fileUser(path.Child("defaultUser"), s.DefaultUser)
	p := projection{checker: c, path: path, files: sets.New[string]()}
	for i := range s.Sources {
		p.source(path.Child("sources").Index(i), &s.Sources[i])
	}
}

func (p *projection) source(path *field.Path, s *corev1.VolumeProjection) {
	sources := 0
	if s.Secret != nil {
		sources++
		p.items(path.Child("secret"), s.Secret.Name, s.Secret.Items)
	}
	if s.ConfigMap != nil {
		sources++
		p.items(path.Child("configMap"), s.ConfigMap.Name, s.ConfigMap.Items)
	}
	if s.DownwardAPI != nil {
		sources++
		for i := range s.DownwardAPI.Items {
			f := &s.DownwardAPI.Items[i]
			p.downwardFile(path.Child("downwardAPI"), f)
			if f.Path != "" {
				p.file(f.Path, f.Path)
			}
		}
	}
	if s.ServiceAccountToken != nil {
		sources++
		p.token(path.Child("serviceAccountToken"), s.ServiceAccountToken)
	}
	if s.ClusterTrustBundle != nil {
		sources++
		p.trustBundle(path.Child("clusterTrustBundle"), s.ClusterTrustBundle)
	}
	if s.PodCertificate != nil {
		sources++
		p.certificate(path.Child("podCertificate"), s.PodCertificate)
	}
	if sources > 1 {
		p.forbidden(path, "may not specify more than 1 volume type per source")
	}
}

// file takes a file name; owner is what a conflict names.
func (p *projection) file(name, owner string) {
	if p.files.Has(name) {
		p.invalid(p.path, owner, "conflicting duplicate paths")
	}
	p.files.Insert(name)
}

// items checks the keys of a Secret or ConfigMap.
func (p *projection) items(path *field.Path, name string, items []corev1.KeyToPath) {
	if name == "" {
		p.required(path.Child("name"), "")
	}
	for i, item := range items {
		p.keyToPath(path.Child("items").Index(i), item)
		if item.Path != "" {
			p.file(item.Path, name)
		}
	}
}

// token checks a service account token. Its file is not among those that are
// compared; Warnings does that.
func (p *projection) token(path *field.Path, t *corev1.ServiceAccountTokenProjection) {
	expiry := path.Child("expirationSeconds")
	switch exp := t.ExpirationSeconds; {
	case exp == nil:
		p.required(expiry, "")
	case *exp < 10*60:
		p.invalid(expiry, *exp, "may not specify a duration less than 10 minutes")
	case *exp > 1<<32:
		p.invalid(expiry, *exp, "may not specify a duration larger than 2^32 seconds")
	}
	if file := p.path.Child("path"); t.Path == "" {
		p.required(file, "")
	} else {
		found := newChecker(nil, nil)
		found.filePath(file, t.Path)
		p.addRule(ruleTokenPath, found.errs...)
	}
	p.fileUser(path.Child("user"), t.User)
}

func (p *projection) trustBundle(path *field.Path, s *corev1.ClusterTrustBundleProjection) {
	switch {
	case s.Name != nil && s.SignerName != nil:
		p.invalid(path, Internal(s), "only one of name and signerName may be used")
	case s.Name != nil:
		if *s.Name == "" {
			p.required(path.Child("name"), "must be a valid object name")
		}
		for _, msg := range trustBundleName(*s.Name) {
			p.invalid(path.Child("name"), *s.Name, fmt.Sprintf("not a valid clustertrustbundlename: %v", msg))
		}
		if s.LabelSelector != nil {
			p.invalid(path.Child("labelSelector"), s.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case s.SignerName != nil:
		if *s.SignerName == "" {
			p.required(path.Child("signerName"), "must be a valid signer name")
		}
		p.signerName(path.Child("signerName"), *s.SignerName)
		p.add(metavalidation.ValidateLabelSelector(s.LabelSelector,
			metavalidation.LabelSelectorValidationOptions{}, path.Child("labelSelector"))...)
	default:
		p.required(path, "either name or signerName must be specified")
	}
	if s.Path == "" {
		p.required(path.Child("path"), "")
	}
	p.fileUser(path.Child("user"), s.User)
	p.filePath(path.Child("path"), s.Path)
	p.file(s.Path, s.Path)
}

// trustBundleName checks the name of a ClusterTrustBundle; one for a signer
// begins with the signer's name, with colons for slashes.
func trustBundleName(name string) []string {
	i := strings.LastIndex(name, ":")
	return apivalidation.NameIsDNSSubdomain(name[i+1:], false)
}

func (p *projection) certificate(path *field.Path, s *corev1.PodCertificateProjection) {
	p.signerName(path.Child("signerName"), s.SignerName)
	annotations := path.Child("userAnnotations")
	for _, key := range sortedKeys(s.UserAnnotations) {
		p.add(validation.IsDomainPrefixedKey(annotations, strings.ToLower(key))...)
	}
	if apivalidation.ValidateAnnotationsSize(s.UserAnnotations) != nil {
		p.add(field.TooLong(annotations, "", apivalidation.TotalAnnotationSizeLimitB))
	}
	p.fileUser(path.Child("user"), s.User)
	oneOf(p.checker, path.Child("keyType"), s.KeyType,
		"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
	if seconds := s.MaxExpirationSeconds; seconds != nil {
		p.maxExpiration(path.Child("maxExpirationSeconds"), *seconds, s.SignerName)
	}
	files := 0
	for _, f := range []struct{ field, name string }{
		{"credentialBundlePath", s.CredentialBundlePath},
		{"keyPath", s.KeyPath},
		{"certificateChainPath", s.CertificateChainPath},
	} {
		if f.name == "" {
			continue
		}
		files++
		p.filePath(path.Child(f.field), f.name)
		p.file(f.name, f.name)
	}
	if files == 0 {
		p.required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
}

// maxExpiration limits a certificate's life: a day for Kubernetes' own
// signers, 91 days for others.
func (p *projection) maxExpiration(path *field.Path, seconds int32, signer string) {
	const hour, day = 3600, 24 * 3600
	if seconds < hour {
		p.invalid(path, seconds, "if provided, maxExpirationSeconds must be >= 3600")
	}
	most := int32(91 * day)
	if host, _, _ := strings.Cut(signer, "/"); host == "kubernetes.io" || strings.HasSuffix(host, ".kubernetes.io") {
		most = day
	}
	if seconds > most {
		p.invalid(path, seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most))
	}
}

// signerName demands domain.tld/name, where name may be namespace.name.
func (c *checker) signerName(path *field.Path, name string) {
	if name == "" {
		c.required(path, "")
		return
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		c.invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return
	}
	const maxDomain = validation.DNS1123SubdomainMaxLength
	if len(domain) > maxDomain {
		c.add(field.TooLong(path, "", maxDomain))
	}
	labels := strings.Split(domain, ".")
	c.firstWrong(path, domain, labels, validation.IsDNS1123Label)
	if len(labels) < 2 {
		c.invalid(path, domain, "should be a domain with at least two segments separated by dots")
	}
	c.firstWrong(path, rest, strings.Split(rest, "."), validation.IsDNS1123Subdomain)
	if most := 2*maxDomain + validation.DNS1123LabelMaxLength + 2; len(name) > most {
		c.add(field.TooLong(path, "", most))
	}
}

// firstWrong reports all that is wrong with the first wrong label.
func (c *checker) firstWrong(path *field.Path, value string, labels []string, check func(string) []string) {
	i := slices.IndexFunc(labels, func(l string) bool { return len(check(l)) > 0 })
	if i < 0 {
		return
	}
	for _, msg := range check(labels[i]) {
		c.invalid(path, value, fmt.Sprintf("validating label %q: %s", labels[i], msg))
	}
}
