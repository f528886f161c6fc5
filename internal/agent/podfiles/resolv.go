package podfiles

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// domain is where the names of a cluster are.
const domain = "cluster.local"

// The limits of a resolv.conf, as Kubernetes has them: a libc reads no more.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxName        = 253
)

// asksCluster reports whether the pod asks the cluster first, which it can at names.
func asksCluster(pod *corev1.Pod, names netip.Addr) bool {
	policy := pod.Spec.DNSPolicy
	switch {
	case !names.IsValid() || policy == corev1.DNSNone || policy == corev1.DNSDefault:
		return false
	case policy == corev1.DNSClusterFirstWithHostNet:
		return true
	}
	return !pod.Spec.HostNetwork
}

// resolvConf is what a resolv.conf says.
type resolvConf struct{ servers, searches, options []string }

// resolv returns the resolv.conf of a pod, by its dnsPolicy and its dnsConfig; machine is
// the machine's, names where the cluster's names are asked for. warnings say what had to be
// left out, in a kubelet's words.
func resolv(pod *corev1.Pod, machine string, names netip.Addr) (text string, warnings []string) {
	var conf resolvConf
	switch {
	case asksCluster(pod, names):
		own := []string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}
		conf = resolvConf{
			searches: appendNew(own, readResolv(machine).searches), servers: []string{names.String()}, options: []string{"ndots:5"},
		}
	case pod.Spec.DNSPolicy != corev1.DNSNone:
		conf = readResolv(machine)
	}
	if own := pod.Spec.DNSConfig; own != nil {
		conf.servers = appendNew(appendNew(nil, conf.servers), own.Nameservers)
		conf.searches = appendNew(appendNew(nil, conf.searches), own.Searches)
		for _, o := range own.Options {
			text := o.Name
			if o.Value != nil && *o.Value != "" {
				text += ":" + *o.Value
			}
			conf.setOption(text)
		}
	}
	warnings = conf.limit()
	return conf.String(), warnings
}

// readResolv reads a resolv.conf as a libc does: name servers and options add up, the last
// list of searched domains counts.
func readResolv(text string) (conf resolvConf) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			conf.servers = append(conf.servers, fields[1])
		case "search":
			conf.searches = nil
			for _, domain := range fields[1:] {
				if domain != "." {
					conf.searches = append(conf.searches, strings.TrimSuffix(domain, "."))
				}
			}
		case "options":
			for _, o := range fields[1:] {
				conf.setOption(o)
			}
		}
	}
	return conf
}

// onLoopback reports whether a machine asks only servers on its loopback (systemd-resolved,
// dnsmasq, Docker's), which a pod with a network of its own does not reach.
func onLoopback(machine string) bool {
	servers := readResolv(machine).servers
	for _, server := range servers {
		if ip, err := netip.ParseAddr(server); err != nil || !ip.IsLoopback() {
			return false
		}
	}
	return len(servers) > 0
}

// reachable returns what such a machine's pods have in the place of its file: behind, which is
// whom systemd-resolved asks, as a kubelet is told to use it (--resolv-conf); where there is
// none, the cluster's server, which reaches the machine's.
func reachable(machine, behind string, names netip.Addr) string {
	if len(readResolv(behind).servers) > 0 && !onLoopback(behind) {
		return behind
	}
	var b strings.Builder
	fmt.Fprintf(&b, "nameserver %s\n", names)
	for line := range strings.Lines(machine) {
		if fields := strings.Fields(line); len(fields) == 0 || fields[0] != "nameserver" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// setOption adds an option in the place of one of the same name.
func (c *resolvConf) setOption(option string) {
	name, _, _ := strings.Cut(option, ":")
	c.options = slices.DeleteFunc(c.options, func(old string) bool {
		was, _, _ := strings.Cut(old, ":")
		return was == name
	})
	c.options = append(c.options, option)
}

// limit leaves out what is too much, and says so.
func (c *resolvConf) limit() (warnings []string) {
	if len(c.servers) > maxServers {
		c.servers = c.servers[:maxServers]
		warnings = append(warnings, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(c.servers, " "))
	}
	all := len(c.searches)
	c.searches = c.searches[:min(all, maxSearches)]
	c.searches = slices.DeleteFunc(c.searches, func(domain string) bool { return len(domain) > maxName })
	for len(strings.Join(c.searches, " ")) > maxSearchChars {
		c.searches = c.searches[:len(c.searches)-1]
	}
	if len(c.searches) < all {
		warnings = append(warnings, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(c.searches, " "))
	}
	return warnings
}

func (c *resolvConf) String() string {
	var b strings.Builder
	if len(c.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.searches, " "))
	}
	for _, s := range c.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.options, " "))
	}
	return b.String()
}

func appendNew(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
