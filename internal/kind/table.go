package kind

// Table returns every resource that Sampan serves, one row each. The rows are
// new at each call, and independent of each other.
func Table() []*Kind {
	return []*Kind{
		Namespace(),
		Node(),
		ConfigMap(),
		Secret(),
		ServiceAccount(),
		Pod(),
		Event(),
		Lease(),
		Job(),
		CronJob(),
		Role(),
		RoleBinding(),
		ClusterRole(),
		ClusterRoleBinding(),
	}
}
