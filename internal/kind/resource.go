package kind

import "github.com/sampan-batch/sampan/internal/change"

// The resources of the table. This is where their names are written, and nowhere
// else: who asks for pods says kind.Pods, and kind.Pods.Key(namespace, name) for one.
const (
	Namespaces      change.Resource = "namespaces"
	Nodes           change.Resource = "nodes"
	ConfigMaps      change.Resource = "configmaps"
	Secrets         change.Resource = "secrets"
	ServiceAccounts change.Resource = "serviceaccounts"
	Pods            change.Resource = "pods"
	Events          change.Resource = "events"
	Leases          change.Resource = "leases.coordination.k8s.io"
	Jobs            change.Resource = "jobs.batch"
	CronJobs        change.Resource = "cronjobs.batch"

	Roles               change.Resource = "roles.rbac.authorization.k8s.io"
	RoleBindings        change.Resource = "rolebindings.rbac.authorization.k8s.io"
	ClusterRoles        change.Resource = "clusterroles.rbac.authorization.k8s.io"
	ClusterRoleBindings change.Resource = "clusterrolebindings.rbac.authorization.k8s.io"
)
