package doctor

import (
	"fmt"
	"os"
	"os/user"
)

// namespaces tells of user namespaces, and of the ids in them; s is what a container has
// seen, nil if none could be started.
func namespaces(s *seen) []Finding {
	const name = "user namespaces"
	if os.Geteuid() == 0 && (s == nil || s.IDs > 1<<31) {
		return []Finding{ok(name, "not needed: this is root"), ok("subordinate ids", "not needed: this is root")}
	}
	if s == nil {
		return []Finding{whyNoNamespaces(name)}
	}
	return []Finding{ok(name, "a container is in one"), subordinate(s.IDs)}
}

// whyNoNamespaces looks for what keeps ordinary users from namespaces of their own.
func whyNoNamespaces(name string) Finding {
	switch {
	case sysctl("user/max_user_namespaces") == "0":
		return broken(name, "sysctl user.max_user_namespaces=15000", "switched off")
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return broken(name, "sysctl kernel.unprivileged_userns_clone=1", "refused to ordinary users")
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return limited(name, "if the sandbox fails: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns", "restricted by AppArmor")
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return broken(name, "use a kernel with CONFIG_USER_NS", "this kernel has none")
	}
	return ok(name, "no setting of the kernel forbids them")
}

func subordinate(n uint64) Finding {
	const name = "subordinate ids"
	if n > 1 {
		return ok(name, "containers have %d user ids", n)
	}
	who := fmt.Sprint(os.Geteuid())
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	return limited(name, fmt.Sprintf("install newuidmap (package uidmap), then: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", who),
		"there are none: all users in containers are user %d, and images that change owners may not work", os.Geteuid())
}
