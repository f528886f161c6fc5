package runspec

import (
	"strings"

	"k8s.io/component-helpers/node/util/sysctl"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Those of a network have a name that begins so.
const networkSysctl = "net."

// sysctls returns the kernel parameters that the pod asks for, by their names with dots, and those
// that it does not get: of a network that is not its own.
func sysctls(in *Input) (set map[string]string, withheld []string) {
	all := in.Pod.Spec.SecurityContext
	if all == nil || in.Class == runner.Host {
		return nil, nil
	}
	for _, s := range all.Sysctls {
		name := sysctl.NormalizeName(s.Name)
		if strings.HasPrefix(name, networkSysctl) && !in.Addresses.Own {
			withheld = append(withheld, name)
			continue
		}
		if set == nil {
			set = make(map[string]string)
		}
		set[name] = s.Value
	}
	return set, withheld
}

// SysctlsWithheld returns the kernel parameters that the pod asks for and does not get, because the
// network is not its own.
func SysctlsWithheld(in *Input) []string {
	_, withheld := sysctls(in)
	return withheld
}
