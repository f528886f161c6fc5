package kind

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle"
	"k8s.io/kubernetes/pkg/registry/rbac"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// attest is what a user has to be allowed, to say whom the users of a signer's certificates
// trust. (ClusterTrustBundleAttest)
const attest = "attest"

// ClusterTrustBundle is the row of certificates.k8s.io/v1 clustertrustbundles.
func ClusterTrustBundle() *Kind {
	k := kubernetes[certificatesv1.ClusterTrustBundle, certificatesv1.ClusterTrustBundleList](Names{
		Resource: ClusterTrustBundles, Singular: "clustertrustbundle",
		GVK: certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"),
	}, clustertrustbundle.Strategy, nil)
	k.Create.Signer = func(obj Object) (verb, signer string) {
		return attest, obj.(*certificatesv1.ClusterTrustBundle).Spec.SignerName
	}
	k.Update.Signer = func(obj, old Object) (verb, signer string) {
		if rbac.IsOnlyMutatingGCFields(obj, old, equality.Semantic) {
			return "", ""
		}
		return attest, obj.(*certificatesv1.ClusterTrustBundle).Spec.SignerName
	}
	k.Select.Fields = selects(func(b *certificatesv1.ClusterTrustBundle) fields.Set {
		return fields.Set{"spec.signerName": b.Spec.SignerName}
	})
	spec := certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()
	k.Table = Printer{
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("SignerName", "string", spec["signerName"])},
		Cells: prints(func(b *certificatesv1.ClusterTrustBundle, _ time.Time) []any {
			if b.Spec.SignerName == "" {
				return []any{b.Name, "<none>"}
			}
			return []any{b.Name, b.Spec.SignerName}
		}),
	}
	return k
}

// PodCertificateRequest is the row of certificates.k8s.io/v1 podcertificaterequests.
func PodCertificateRequest() *Kind {
	write, status := upstream.PodCertificateRequest()
	k := kubernetes[certificatesv1.PodCertificateRequest, certificatesv1.PodCertificateRequestList](Names{
		Resource: PodCertificateRequests, Singular: "podcertificaterequest",
		GVK: certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"),
	}, write, status)
	k.Select.Fields = selects(func(r *certificatesv1.PodCertificateRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
	})
	spec := certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()
	k.Table = Printer{
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("PodName", "string", spec["podName"]), column("ServiceAccountName", "string", spec["serviceAccountName"]),
			column("NodeName", "string", spec["nodeName"]), column("SignerName", "string", spec["signerName"]),
			column("State", "string", "Is the request Pending, Issued, Denied, or Failed?"),
			column("UnverifiedUserAnnotations", "string", spec["unverifiedUserAnnotations"]),
		},
		Cells: prints(func(r *certificatesv1.PodCertificateRequest, _ time.Time) []any {
			// What is last is for a wide table, and there whatever the table is: Kubernetes'
			// printer does not say that the column is a wide one.
			return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, podRequestState(r),
				labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)}
		}),
	}
	return k
}

// podRequestState is what has become of a pod's request.
func podRequestState(r *certificatesv1.PodCertificateRequest) string {
	state := "Pending"
	for i := range r.Status.Conditions {
		switch c := r.Status.Conditions[i].Type; c {
		case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
			certificatesv1.PodCertificateRequestConditionTypeFailed:
			state = c
		}
	}
	return state
}
