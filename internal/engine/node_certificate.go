package engine

import (
	"context"
	"time"

	"github.com/google/uuid"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage/names"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/store"
)

// ClusterTrustBundle implements agent.Client.
func (c *nodeClient) ClusterTrustBundle(_ context.Context, name string) (*certificatesv1.ClusterTrustBundle, error) {
	return get[*certificatesv1.ClusterTrustBundle](c, kind.ClusterTrustBundles, "", name)
}

// ClusterTrustBundles implements agent.Client.
func (c *nodeClient) ClusterTrustBundles(_ context.Context, signer string) (list []*certificatesv1.ClusterTrustBundle, err error) {
	for _, bundle := range listOf[*certificatesv1.ClusterTrustBundle](c.store.View(), kind.ClusterTrustBundles) {
		if bundle.Spec.SignerName == signer {
			list = append(list, bundle)
		}
	}
	return list, nil
}

// PodCertificateRequest implements agent.Client.
func (c *nodeClient) PodCertificateRequest(_ context.Context, namespace, name string) (*certificatesv1.PodCertificateRequest, error) {
	return get[*certificatesv1.PodCertificateRequest](c, kind.PodCertificateRequests, namespace, name)
}

// CreatePodCertificateRequest implements agent.Client. It is for a pod of the node's.
func (c *nodeClient) CreatePodCertificateRequest(ctx context.Context, request *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	k := c.kinds.ByResource(kind.PodCertificateRequests)
	ref := runner.PodRef{Namespace: request.Namespace, Name: request.Spec.PodName, UID: string(request.Spec.PodUID)}
	err := c.redo(ctx, func(view *store.View) (change.Set, error) {
		var set change.Set
		if _, err := c.pod(view, ref); err != nil {
			return set, err
		}
		request.Name = names.SimpleNameGenerator.GenerateName(request.GenerateName)
		request.UID = types.UID(uuid.NewString())
		request.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
		k.Types.Default(request)
		k.Create.Prepare(request)
		if errs := k.Create.Check(request); len(errs) > 0 {
			return set, apierrors.NewInvalid(k.GVK.GroupKind(), request.Name, errs)
		}
		set.Create(k.KeyOf(request), request)
		return set, nil
	})
	return request, err
}
