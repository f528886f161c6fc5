package server

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuthenticationConfigName is the name of AuthenticationConfig, in kube-system.
const AuthenticationConfigName = "extension-apiserver-authentication"

// AuthenticationConfig is the ConfigMap by which servers of aggregated APIs learn whom to
// believe: this one, when it says for whom it asks.
func (s *Server) AuthenticationConfig() (*corev1.ConfigMap, error) {
	pair, err := s.certs.frontProxy()
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: AuthenticationConfigName},
		Data: map[string]string{
			"client-ca-file":                     string(s.certs.ca.certPEM),
			"requestheader-client-ca-file":       string(pair.ca.certPEM),
			"requestheader-allowed-names":        `["` + frontProxyClient + `"]`,
			"requestheader-username-headers":     `["X-Remote-User"]`,
			"requestheader-uid-headers":          `["X-Remote-Uid"]`,
			"requestheader-group-headers":        `["X-Remote-Group"]`,
			"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
		},
	}, nil
}
