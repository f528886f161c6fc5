package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/server"
)

// MachineNode is a node that an engine runs itself.
type MachineNode = server.MachineNode

// NodesOf returns the nodes that the engine behind an API runs itself.
func NodesOf(ctx context.Context, config *rest.Config) ([]MachineNode, error) {
	return askNodes(ctx, config, http.MethodGet, server.NodesPath)
}

// SwitchNode has the engine behind an API start, stop or kill one of its nodes, and returns
// how all are then.
func SwitchNode(ctx context.Context, config *rest.Config, node, what string) ([]MachineNode, error) {
	return askNodes(ctx, config, http.MethodPost, server.NodesPath+"/"+url.PathEscape(node)+"/"+what)
}

func askNodes(ctx context.Context, config *rest.Config, method, path string) ([]MachineNode, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base.Scheme+"://"+base.Host+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const most = 1 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound && strings.HasPrefix(string(body), "404"), resp.StatusCode == http.StatusForbidden && !json.Valid(body):
		return nil, fmt.Errorf("%s is not an engine that runs nodes: %s", base.Host, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	var all []MachineNode
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", base.Host, err)
	}
	return all, nil
}
