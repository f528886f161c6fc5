package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Protocol is that of a port.
type Protocol uint8

// Those that are carried, by their numbers in IP.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Port is where a Service is.
type Port struct {
	Address  netip.Addr
	Port     uint16
	Protocol Protocol
}

func (p Port) String() string {
	return fmt.Sprintf("%s/%d", netip.AddrPortFrom(p.Address, p.Port), p.Protocol)
}

// Service is one port of a Service, and who answers there.
type Service struct {
	At Port
	// Endpoints are pods, or whatever else this machine reaches, of the family of the Service's
	// address. Without one, a client is refused.
	Endpoints []netip.AddrPort
	// Machine says that the address is one of this machine, from which it is led to the pods.
	// A client from there has no other way in.
	Machine bool
	// Sticky has a client always get the same of the endpoints, as long as they are these.
	Sticky bool
}

// same tells whether clients would see no difference.
func (s *Service) same(o *Service) bool {
	return s.Sticky == o.Sticky && slices.Equal(s.Endpoints, o.Endpoints)
}

// ServicesOfIPv4 are those of a list that are at an address of IPv4.
func ServicesOfIPv4(list []Service) []Service {
	return slices.DeleteFunc(slices.Clone(list), func(s Service) bool { return !s.At.Address.Is4() })
}

// SetServices makes the Services those of the list, of which each is at another Port, each at
// once. Connections that there are go on, but for those through a port of the machine that
// leads nowhere any more. The error may be that another program has such a port, or that the kernel
// does not take one of the Services; all else is done then.
func (n *Network) SetServices(list []Service) error {
	var inside, doors []Service
	for _, s := range list {
		if s.Machine {
			doors = append(doors, s)
		} else {
			inside = append(inside, s)
		}
	}
	failed := n.rules.set(ServicesOfIPv4(inside))
	if n.rules6 != nil {
		failed = errors.Join(failed, n.rules6.set(slices.DeleteFunc(inside, func(s Service) bool { return s.At.Address.Is4() })))
	}
	closed := n.doors.set(doors)
	switch {
	case failed != nil:
		return fmt.Errorf("network: set the Services: %w", errors.Join(failed, closed))
	case closed != nil:
		return fmt.Errorf("network: %w: %w", ErrDoor, closed)
	}
	return nil
}
