package kind

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
)

const noFlows = "all clients have an equal share of the server"

// FlowSchema is the row of flowcontrol.apiserver.k8s.io/v1 flowschemas.
func FlowSchema() *Kind {
	return flowSchemaTable(kubernetes[flowcontrolv1.FlowSchema, flowcontrolv1.FlowSchemaList](Names{
		Resource: FlowSchemas, Singular: "flowschema",
		GVK: flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"),
	}, flowschema.Strategy, flowschema.StatusStrategy).withoutEffect(noFlows))
}

// PriorityLevelConfiguration is the row of flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations.
func PriorityLevelConfiguration() *Kind {
	return priorityLevelTable(kubernetes[flowcontrolv1.PriorityLevelConfiguration, flowcontrolv1.PriorityLevelConfigurationList](Names{
		Resource: PriorityLevelConfigurations, Singular: "prioritylevelconfiguration",
		GVK: flowcontrolv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"),
	}, prioritylevelconfiguration.Strategy, prioritylevelconfiguration.StatusStrategy).withoutEffect(noFlows))
}
