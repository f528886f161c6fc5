package server

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A group of rare kinds costs nothing before somebody asks for it, or for all groups;
// whoever does, finds it.
func TestRareGroupsComeLate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	installed := func() (groups []string) {
		for _, ws := range f.generic.Handler.GoRestfulContainer.RegisteredWebServices() {
			groups = append(groups, ws.RootPath())
		}
		return groups
	}
	has := func(group string) bool {
		for _, path := range installed() {
			if strings.HasPrefix(path, "/apis/"+group) {
				return true
			}
		}
		return false
	}
	if _, err := f.client.BatchV1().Jobs("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if !has("batch") || has("apps") || has("resource.k8s.io") {
		t.Errorf("after a request for Jobs there are %v", installed())
	}
	if _, err := f.client.AppsV1().Deployments("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if !has("apps/v1") || !has("resource.k8s.io/v1") {
		t.Errorf("after a request for Deployments there are %v", installed())
	}
}

// Who asks what there is, in whatever way, is told of the rare groups, too.
func TestRareGroupsAreDiscovered(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/apis", "/apis/", "/apis/apps", "/apis/apps/", "/openapi/v2", "/openapi/v3"} {
		f := setup(t)
		resp, body := f.http(t, http.MethodGet, path, "", nil)
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "apps") {
			t.Errorf("%s: %d without apps", path, resp.StatusCode)
		}
	}
}
