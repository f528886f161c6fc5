// Package reason is the one home of the reasons of Events: what is written, and what is
// read by whoever puts words to it. A reason is part of the API: clients select by it.
//
// Those that Kubernetes does not write are Ours, and listed for users in
// docs/differences.md. The reasons of conditions and of waiting containers are not here.
package reason

import "slices"

// Of Jobs, by the Job controller. Why a Job failed is said by batchv1.JobReason….
const (
	Completed             = "Completed"
	Resumed               = "Resumed"
	Suspended             = "Suspended"
	TooManySucceededPods  = "TooManySucceededPods"
	UnknownCompletionMode = "UnknownCompletionMode"

	IndexFailed           = "IndexFailed"
	ManagedBy             = "ManagedBy"
	NotReplaced           = "NotReplaced"
	PodAdopted            = "PodAdopted"
	PodFailureIgnored     = "PodFailureIgnored"
	PodNotCounted         = "PodNotCounted"
	PodReleased           = "PodReleased"
	WaitingForTermination = "WaitingForTermination"
)

// Of pods whose resources are changed while they run, by the node.
const (
	ResizeCompleted  = "ResizeCompleted"
	ResizeDeferred   = "ResizeDeferred"
	ResizeError      = "ResizeError"
	ResizeInfeasible = "ResizeInfeasible"
	ResizeStarted    = "ResizeStarted"
)

// Of CronJobs, by theirs.
const (
	InvalidSchedule     = "InvalidSchedule"
	JobAlreadyActive    = "JobAlreadyActive"
	MissingJob          = "MissingJob"
	MissSchedule        = "MissSchedule"
	SawCompletedJob     = "SawCompletedJob"
	TooManyMissedTimes  = "TooManyMissedTimes"
	UnexpectedJob       = "UnexpectedJob"
	UnknownTimeZone     = "UnknownTimeZone"
	UnparseableSchedule = "UnparseableSchedule"
	UnsupportedSchedule = "UnsupportedSchedule"

	ClockSetBack     = "ClockSetBack"
	CronJobSuspended = "CronJobSuspended"
	JobAlreadyExists = "JobAlreadyExists"
)

// Of DaemonSets.
const (
	FailedDaemonPod    = "FailedDaemonPod"
	SucceededDaemonPod = "SucceededDaemonPod"
)

// Of StatefulSets.
const (
	ConflictingController = "ConflictingController"
	SuccessfulUpdate      = "SuccessfulUpdate"
)

// Of Deployments.
const (
	DeploymentRollback                  = "DeploymentRollback"
	DeploymentRollbackRevisionNotFound  = "DeploymentRollbackRevisionNotFound"
	DeploymentRollbackTemplateUnchanged = "DeploymentRollbackTemplateUnchanged"
	ReplicaSetCreateError               = "ReplicaSetCreateError"
	ScalingReplicaSet                   = "ScalingReplicaSet"
)

// Of volumes and claims.
const (
	ClaimLost                  = "ClaimLost"
	ClaimMisbound              = "ClaimMisbound"
	ExternalExpanding          = "ExternalExpanding"
	ExternalProvisioning       = "ExternalProvisioning"
	FailedBinding              = "FailedBinding" // of pods, too
	ProvisioningFailed         = "ProvisioningFailed"
	ProvisioningSucceeded      = "ProvisioningSucceeded"
	VolumeFailedDelete         = "VolumeFailedDelete"
	VolumeFailedRecycle        = "VolumeFailedRecycle"
	VolumeMismatch             = "VolumeMismatch"
	VolumeResizeSuccessful     = "VolumeResizeSuccessful"
	VolumeUnknownReclaimPolicy = "VolumeUnknownReclaimPolicy"
	WaitForFirstConsumer       = "WaitForFirstConsumer"
	WaitForPodScheduled        = "WaitForPodScheduled"
)

// Of what all make.
const (
	FailedCreate     = "FailedCreate"
	SuccessfulCreate = "SuccessfulCreate"
	SuccessfulDelete = "SuccessfulDelete"
)

// Of pods, by the scheduler and the kubelet.
const (
	FailedScheduling = "FailedScheduling"
	Preempted        = "Preempted"
	Scheduled        = "Scheduled"

	AppArmor                           = "AppArmor"
	BackOff                            = "BackOff" // of Jobs, too
	CertificateExpired                 = "CertificateExpired"
	CertificateOverdueForRefresh       = "CertificateOverdueForRefresh"
	Created                            = "Created"
	Denied                             = "Denied"
	ErrImageNeverPull                  = "ErrImageNeverPull"
	DNSConfigForming                   = "DNSConfigForming"
	Evicted                            = "Evicted"
	Failed                             = "Failed"
	FailedAttachVolume                 = "FailedAttachVolume"
	FailedCreatePodSandBox             = "FailedCreatePodSandBox"
	FailedMapVolume                    = "FailedMapVolume"
	FailedMount                        = "FailedMount"
	FailedPostStartHook                = "FailedPostStartHook"
	FailedPrepareDynamicResources      = "FailedPrepareDynamicResources"
	FailedPreStopHook                  = "FailedPreStopHook"
	FailedToRetrieveImagePullSecret    = "FailedToRetrieveImagePullSecret"
	InspectFailed                      = "InspectFailed"
	Killing                            = "Killing"
	NetworkNotReady                    = "NetworkNotReady"
	NodeAffinity                       = "NodeAffinity"
	NodePorts                          = "NodePorts"
	OutOf                              = "OutOf" // and the name of a resource
	PodOSNotSupported                  = "PodOSNotSupported"
	PodOSSelectorNodeLabelDoesNotMatch = "PodOSSelectorNodeLabelDoesNotMatch"
	Pulled                             = "Pulled"
	Pulling                            = "Pulling"
	Started                            = "Started"
	SysctlForbidden                    = "SysctlForbidden"
	TaintToleration                    = "TaintToleration"
	Unhealthy                          = "Unhealthy"

	CapabilityWithheld     = "CapabilityWithheld"
	DeletionByPodGC        = "DeletionByPodGC"
	FileTruncated          = "FileTruncated"
	ImageNotUsed           = "ImageNotUsed"
	LimitsIgnored          = "LimitsIgnored"
	NotEnforced            = "NotEnforced"
	OutputLost             = "OutputLost"
	SecurityContextIgnored = "SecurityContextIgnored"
)

// Of Services and Endpoints.
const (
	FailedToUpdateEndpointSlices = "FailedToUpdateEndpointSlices"
	TooManyAddressesToMirror     = "TooManyAddressesToMirror"
)

// Of the node, by its kubelet; that it has a condition is said by the condition's reason.
const (
	EvictionThresholdMet = "EvictionThresholdMet"
	Starting             = "Starting"
)

// Of PodDisruptionBudgets, and of pods that one has let go.
const (
	CalculateExpectedPodCountFailed = "CalculateExpectedPodCountFailed"
	NoPods                          = "NoPods"
	NotDeleted                      = "NotDeleted"
	UnmanagedPods                   = "UnmanagedPods"
)

// Of HorizontalPodAutoscalers.
const (
	AmbiguousSelector                = "AmbiguousSelector"
	FailedComputeMetricsReplicas     = "FailedComputeMetricsReplicas"
	FailedGetContainerResourceMetric = "FailedGetContainerResourceMetric"
	FailedGetExternalMetric          = "FailedGetExternalMetric"
	FailedGetObjectMetric            = "FailedGetObjectMetric"
	FailedGetPodsMetric              = "FailedGetPodsMetric"
	FailedGetResourceMetric          = "FailedGetResourceMetric"
	FailedGetScale                   = "FailedGetScale"
	InvalidMetricSourceType          = "InvalidMetricSourceType"
	InvalidSelector                  = "InvalidSelector"
	SelectorRequired                 = "SelectorRequired"
	SuccessfulRescale                = "SuccessfulRescale"
)

// Of a node that is lost, and of its pods.
const (
	NodeNotReady         = "NodeNotReady"
	TaintManagerEviction = "TaintManagerEviction"
)

// Ours returns those that Kubernetes does not write: it does the same, but silently.
// They are sorted.
func Ours() []Own {
	return []Own{
		{"Job", BackOff}, {"Job", IndexFailed}, {"Job", ManagedBy}, {"Job", NotReplaced}, {"Job", PodAdopted},
		{"Job", PodFailureIgnored}, {"Job", PodNotCounted}, {"Job", PodReleased}, {"Job", WaitingForTermination},
		{"CronJob", ClockSetBack}, {"CronJob", CronJobSuspended}, {"CronJob", JobAlreadyExists},
		{"CronJob", MissSchedule}, // which it means to write, but never does: kubernetes/kubernetes#101148
		{"Pod", CapabilityWithheld}, {"Pod", DeletionByPodGC}, {"Pod", FileTruncated}, {"Pod", ImageNotUsed}, {"Pod", LimitsIgnored},
		{"Pod", NotEnforced}, {"Pod", OutputLost}, {"Pod", SecurityContextIgnored},
	}
}

// Own is a reason of ours, of events about objects of a kind.
type Own struct{ Kind, Reason string }

// IsOurs tells whether Kubernetes writes no such event about an object of a kind.
func IsOurs(kind, reason string) bool { return slices.Contains(Ours(), Own{kind, reason}) }
