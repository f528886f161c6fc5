package kind

import (
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/kubernetes/pkg/apis/certificates"
	registry "k8s.io/kubernetes/pkg/registry/certificates/certificates"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// CertificateSigningRequest is the row of certificates.k8s.io/v1 certificatesigningrequests.
func CertificateSigningRequest() *Kind {
	names := Names{
		Resource: CertificateSigningRequests, Singular: "certificatesigningrequest", ShortNames: []string{"csr"},
		GVK: certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
	}
	k := kubernetes[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](names, registry.Strategy, registry.StatusStrategy)
	approval := kubernetesUpdate(upstream.Of(names.GVK, names.Plural(), "approval", registry.ApprovalStrategy))
	k.Approval = &approval
	k.Create.Requester = requestedBy
	k.Create.Limit = onlyOrdinarySubjects
	k.Approval.Signer = func(_, old Object) (verb, signer string) {
		return "approve", old.(*certificatesv1.CertificateSigningRequest).Spec.SignerName
	}
	k.Status.Signer = func(obj, old Object) (verb, signer string) {
		next, before := obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
		if slices.Equal(next.Status.Certificate, before.Status.Certificate) &&
			equality.Semantic.DeepEqual(next.Status.Conditions, before.Status.Conditions) {
			return "", ""
		}
		return "sign", before.Spec.SignerName
	}
	k.Select.Fields = selects(func(r *certificatesv1.CertificateSigningRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName}
	})
	return certificateSigningRequestTable(k)
}

// requestedBy writes down for whom a certificate is asked for, whatever the request says itself.
func requestedBy(obj Object, by Requester) {
	spec := &obj.(*certificatesv1.CertificateSigningRequest).Spec
	spec.Username, spec.UID, spec.Groups, spec.Extra = by.Name, by.UID, by.Groups, nil
	for k, v := range by.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		spec.Extra[k] = v
	}
}

// onlyOrdinarySubjects refuses a client's certificate for the group that may do everything: roles could
// not take it back. (CertificateSubjectRestriction)
func onlyOrdinarySubjects(obj Object, _ Getter) error {
	r := obj.(*certificatesv1.CertificateSigningRequest)
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	request, err := certificates.ParseCSR(r.Spec.Request)
	if err != nil {
		return fmt.Errorf("failed to parse CSR: %v", err)
	}
	if slices.Contains(request.Subject.Organization, "system:masters") {
		return fmt.Errorf("use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName)
	}
	return nil
}

func certificateSigningRequestTable(k *Kind) *Kind {
	// Kubernetes' printer has the words of the older version.
	spec, status := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc(), certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()
	k.Table = Printer{
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), ageColumn(), column("SignerName", "string", spec["signerName"]), column("Requestor", "string", spec["request"]),
			column("RequestedDuration", "string", spec["expirationSeconds"]), column("Condition", "string", status["conditions"]),
		},
		Cells: prints(func(r *certificatesv1.CertificateSigningRequest, now time.Time) []any {
			signer, life := "<none>", "<none>"
			if r.Spec.SignerName != "" {
				signer = r.Spec.SignerName
			}
			if r.Spec.ExpirationSeconds != nil {
				life = duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
			}
			return []any{r.Name, age(r.CreationTimestamp, now), signer, r.Spec.Username, life, requestState(r)}
		}),
	}
	return k
}

// requestState is what has become of a request.
func requestState(r *certificatesv1.CertificateSigningRequest) string {
	has := func(condition certificatesv1.RequestConditionType) bool {
		return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == condition })
	}
	state := []string{"Pending"}
	switch {
	case has(certificatesv1.CertificateDenied):
		state[0] = "Denied"
	case has(certificatesv1.CertificateApproved):
		state[0] = "Approved"
	}
	if has(certificatesv1.CertificateFailed) {
		state = append(state, "Failed")
	}
	if len(r.Status.Certificate) > 0 {
		state = append(state, "Issued")
	}
	return strings.Join(state, ",")
}
