package kubediff

import "strings"

// What the places of an object get. Each of these means something somewhere, or
// nearly does.
var (
	words = list(
		// The second is wrong nearly everywhere, and shows how a message quotes it.
		"", "a \x00<é", "a/b", "../a", "a", strings.Repeat("a", 64), "/a", "a b", "0", "a.b/c", "a=b", "$(A)", "b", "A", "a.b", "a/../b", "..", "/", "-", "-1", "1", "70%", "101%", "a@b", "a,b", "ä",
		strings.Repeat("a", 254), strings.Repeat("a/", 150), "a:b", "kubernetes.io/a", "example.com/a", "A_B",
		"metadata.name", "metadata.labels['a']", "metadata.labels", "spec.nodeName", "status.podIP", "limits.cpu", "requests.memory", "limits.ephemeral-storage", "v1", "v2",
		"10.0.0.1", "010.1.1.1", "fd00::1", "::ffff:1.2.3.4", "fe80::1%eth0", "10.0.0.0/8",
		"Always", "Never", "OnFailure", "IfNotPresent", "Exists", "DoesNotExist", "In", "NotIn", "Gt", "Lt", "Equal", "NoExecute", "NoSchedule", "PreferNoSchedule",
		"File", "FallbackToLogsOnError", "HTTP", "HTTPS", "TCP", "UDP", "SCTP", "None", "Default", "ClusterFirst", "ClusterFirstWithHostNet", "Localhost", "RuntimeDefault", "Unconfined",
		"windows", "linux", "cpu", "memory", "hugepages-2Mi", "example.com/gpu", "ephemeral-storage", "storage",
		"ReadWriteOnce", "ReadWriteOncePod", "Filesystem", "Block", "Recursive", "Shared", "HostToContainer", "Bidirectional", "Disabled", "Enabled", "IfPossible",
		"Restart", "RestartAllContainers", "Ignore", "Honor", "NotRequired", "RestartContainer", "DoNotSchedule", "ScheduleAnyway", "PreemptLowerPriority",
		"SIGTERM", "SIGKILL", "CAP_SYS_ADMIN", "SYS_ADMIN", "ALL", "Default", "Unmasked", "OnRootMismatch", "Merge", "Strict", "Directory", "Socket", "Socket2",
		"kernel.shm_rmid_forced", "net.ipv4.tcp_syncookies", "kernel.hostname", "kubernetes.io/hostname", "a:latest", "a@sha256:0", "a:b:c", "1500m",
		"Indexed", "NonIndexed", "FailJob", "FailIndex", "Count", "Failed", "TerminatingOrFailed", "Allow", "Forbid", "Replace", "kubernetes.io/job-controller",
		"* * * * *", "TZ=UTC * * * * *", "@every 1h", "0 0 31 2 *", "61 * * * *", "UTC", "Asia/Seoul", "Local", "Nowhere/City", "0-2,4", "2,1", "0,0", "1-", "100-200",
		"Complete", "SuccessCriteriaMet", "FailureTarget", "Suspended", "True", "False", "Unknown", "Pending", "Running", "Succeeded", "Guaranteed", "Ready", "DisruptionTarget",
		"job-name", "controller-uid", uid, "foregroundDeletion", "orphan", "kubernetes", "default", "kube-system", "main", "second", "init", "side", "data", "conf",
	)
	numbers    = list(0, 1, -1, 2, 3, 4, 5, 10, 60, 80, 420, 511, 512, 1000, 10000, 10001, 65535, 65536, 100000, 100001, 1<<31-1, 1<<31, 1<<53, -1<<31)
	quantities = list("0", "1", "1500m", "1Gi", "-1", "3Mi", "100u", "9e18", "0.5", "2Mi", "1k")
	times      = list(nil, "2026-07-01T12:00:00Z", "2026-07-01T11:00:00Z", "2026-07-01T13:00:00Z", "1970-01-01T00:00:00Z")
	keys       = []string{
		"", "a", "A b", "example.com/a", "a/b/c", "kubernetes.io/a", "cpu", "memory", "storage", "ephemeral-storage", "hugepages-2Mi", "hugepages-x", "requests.cpu", "example.com/gpu",
		"job-name", "controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index",
		"container.apparmor.security.beta.kubernetes.io/main", "seccomp.security.alpha.kubernetes.io/pod", "kubernetes.io/config.mirror", "scheduler.alpha.kubernetes.io/critical-pod",
		"controller.kubernetes.io/pod-deletion-cost", "security.alpha.kubernetes.io/sysctls", "security.alpha.kubernetes.io/unsafe-sysctls", "pod.beta.kubernetes.io/init-containers",
		"batch.kubernetes.io/cronjob-scheduled-timestamp", strings.Repeat("k", 64), "kubernetes.io/hostname", "beta.kubernetes.io/os", "kubernetes.io/arch",
	}
)

func list(values ...any) []any { return values }
