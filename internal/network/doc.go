// Package network gives the pods of a node addresses of their own, and carries what they
// send: to each other, to Services, and out of the node.
//
// All of it is inside one network namespace, the node's, which this process alone keeps
// open. Nothing of the machine's own network is changed, no right over it is needed, and
// when the process dies the kernel takes everything back:
//
//	pod    eth0, a macvlan with one address (/32); everything goes to the gateway
//	node   up0 ═ host0, the two ends of a veth: the parent of the pods' macvlans, and the
//	       gateway. What pods send to each other is routed here, so that Services, which
//	       are translations of addresses (nftables), hold for it
//	       what is for neither is taken to the outside by this process (outside.go)
//
// A bridge would do instead of macvlans, but it takes 1,023 ports, costs twice the time,
// and lets pods reach each other past the translations. Who is where never has to be asked
// for: a MAC address is made from the address, and neighbours are permanent. Asking costs
// a thousand pods a thousand packets, which the kernel then loses.
//
// The namespace of a pod that has ended serves another one (pool.go), since making one costs as
// much as starting a process.
package network
