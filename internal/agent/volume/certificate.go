package volume

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxSelector is how long a selector of trust bundles may be, as for a kubelet.
const maxSelector = 100 << 10

// trustBundle shows whom to trust: the certificates of a ClusterTrustBundle, or of those of a
// signer, each of them once.
func (p *Pod) trustBundle(out *files, src *corev1.ClusterTrustBundleProjection, mode int32) error {
	bundles, err := p.bundles(src)
	switch {
	case absent(err):
		err = fmt.Errorf("while getting ClusterTrustBundle: %w", err)
	case err == nil && len(bundles) == 0:
		err = errNoBundles
	}
	optional := src.Optional != nil && *src.Optional
	if optional && (absent(err) || errors.Is(err, errNoBundles)) {
		bundles, err = nil, nil
	}
	if err != nil {
		return err
	}
	anchors, err := trustAnchors(bundles)
	if err != nil {
		return err
	}
	return p.addPrivate(out, src.Path, anchors, mode)
}

var errNoBundles = errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")

// bundles returns those that a source names. Without a selector none is chosen of a signer's,
// with an empty one all are.
func (p *Pod) bundles(src *corev1.ClusterTrustBundleProjection) ([]*certificatesv1.ClusterTrustBundle, error) {
	switch {
	case src.Name != nil:
		bundle, err := p.Objects.TrustBundle(*src.Name)
		return []*certificatesv1.ClusterTrustBundle{bundle}, err
	case src.SignerName == nil:
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	selector, err := metav1.LabelSelectorAsSelector(src.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	if n := len(selector.String()); n > maxSelector {
		return nil, fmt.Errorf("label selector length (%d) is larger than %d", n, maxSelector)
	}
	all, err := p.Objects.TrustBundles(*src.SignerName)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(b *certificatesv1.ClusterTrustBundle) bool { return !selector.Matches(labels.Set(b.Labels)) }), nil
}

// trustAnchors returns the certificates of bundles, PEM, each of them once, in an order that
// nobody gains by relying on: that of their bytes.
func trustAnchors(bundles []*certificatesv1.ClusterTrustBundle) ([]byte, error) {
	once, size := map[string]bool{}, 0
	for _, bundle := range bundles {
		for block, rest := pem.Decode([]byte(bundle.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			if der := string(block.Bytes); !once[der] {
				once[der] = true
				size += len(der)
			}
			if size > maxFiles {
				return nil, errTooLarge
			}
		}
	}
	var anchors []byte
	for _, der := range slices.Sorted(maps.Keys(once)) {
		anchors = append(anchors, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return anchors, nil
}

// podCertificate shows a key of the pod's and the certificates for it.
func (p *Pod) podCertificate(out *files, volume string, source int, src *corev1.PodCertificateProjection, mode int32) error {
	key, chain, err := p.Certificate(volume, source, src)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path string
		data []byte
	}{
		{src.CredentialBundlePath, slices.Concat(key, chain)}, {src.KeyPath, key}, {src.CertificateChainPath, chain},
	} {
		if file.path == "" {
			continue
		}
		if err := p.addPrivate(out, file.path, file.data, mode); err != nil {
			return err
		}
	}
	return nil
}

// addPrivate adds a file that is its pod's user's alone, if the pod has one, else as the volume says.
func (p *Pod) addPrivate(out *files, path string, data []byte, mode int32) error {
	user := oneUser(p.Object)
	if user != nil || p.fsGroup() != nil {
		mode = 0o600
	}
	if err := out.add(path, data, mode); err != nil {
		return err
	}
	f := out.files[path]
	f.UID = user
	out.files[path] = f
	return nil
}
