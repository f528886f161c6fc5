package proxy

import "github.com/sampan-batch/sampan/internal/network"

// A port has at most maxEndpoints endpoints, as one of Kubernetes' Endpoints has. The table takes
// maxTable at most, of what a supervisor can be told at once, in bytes of what it is told in.
const (
	maxEndpoints  = 1000
	maxTable      = 12 << 20
	costOfPort    = 160
	costOfAddress = 24
)

// bound returns the table of all Services, of which each may have the same share when there are too
// many ports and endpoints for all: who has fewer is not held up by who has more. Who has more has
// fewer endpoints for each port, and, if even one is too many, fewer ports.
func bound(own [][]network.Service) (table []network.Service) {
	share := maxTable
	for ; share > costOfPort; share /= 2 {
		sum := 0
		for _, ports := range own {
			sum += min(cost(ports), share)
		}
		if sum <= maxTable {
			break
		}
	}
	for _, ports := range own {
		most := maxEndpoints
		if cost(ports) > share {
			ports = ports[:min(len(ports), max(1, share/(costOfPort+costOfAddress)))]
			most = max(1, (share/len(ports)-costOfPort)/costOfAddress)
		}
		for _, p := range ports {
			p.Endpoints = p.Endpoints[:min(len(p.Endpoints), most, maxEndpoints)]
			table = append(table, p)
		}
	}
	return table
}

// cost is about how many bytes tell of the ports.
func cost(ports []network.Service) (sum int) {
	for i := range ports {
		sum += costOfPort + costOfAddress*min(len(ports[i].Endpoints), maxEndpoints)
	}
	return sum
}
