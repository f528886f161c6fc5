package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) dnsPolicy(path *field.Path) {
	requiredOneOf(c, path, c.spec.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
}

// dnsConfig checks the resolver's configuration; with dnsPolicy None the pod
// must bring a name server of its own.
func (c *checker) dnsConfig(path *field.Path) {
	const maxServers, maxSearches, maxSearchChars = 3, 32, 2048
	conf := c.spec.DNSConfig
	if c.spec.DNSPolicy == corev1.DNSNone {
		if conf == nil {
			c.required(path, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
		if len(conf.Nameservers) == 0 {
			c.required(path.Child("nameservers"),
				fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
	}
	if conf == nil {
		return
	}
	if len(conf.Nameservers) > maxServers {
		c.invalid(path.Child("nameservers"), conf.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxServers))
	}
	for i, ip := range conf.Nameservers {
		c.ip(path.Child("nameservers").Index(i), ip, nil)
	}
	searches := path.Child("searches")
	if len(conf.Searches) > maxSearches {
		c.invalid(searches, conf.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches))
	}
	if len(strings.Join(conf.Searches, " ")) > maxSearchChars {
		c.invalid(searches, conf.Searches,
			fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars))
	}
	for i, s := range conf.Searches {
		if s == "." {
			continue
		}
		s = strings.TrimSuffix(s, ".")
		c.invalidEach(searches.Index(i), s, validation.IsDNS1123SubdomainWithUnderscore(s))
	}
	for i, o := range conf.Options {
		if o.Name == "" {
			c.required(path.Child("options").Index(i), "must not be empty")
		}
	}
}

// ip checks an address, strictly unless the old object had it too.
func (c *checker) ip(path *field.Path, value string, old []string) {
	c.add(validation.IsValidIPForLegacyField(path, value, strictIP, old)...)
}

// strictIP is the default of the gate StrictIPCIDRValidation: leading zeros in
// IPv4 octets and IPv4-mapped IPv6 addresses are refused.
const strictIP = true

func (c *checker) hostAliases(path *field.Path) {
	for i, alias := range c.spec.HostAliases {
		c.ip(path.Index(i).Child("ip"), alias.IP, nil)
		for j, name := range alias.Hostnames {
			c.dnsSubdomain(path.Index(i).Child("hostnames").Index(j), name)
		}
	}
}
