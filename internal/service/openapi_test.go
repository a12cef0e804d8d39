package service

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestOpenAPI: docs/openapi.yaml has every route of the API, and no other but those that are there over TCP
// alone.
func TestOpenAPI(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := openAPI(t).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				documented[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	served := map[string]bool{"GET /": true, "GET /healthz": true, "GET /metrics": true}
	for route := range newAPI(apiOptions{}).routes() {
		served[route] = true
	}
	for _, route := range slices.Sorted(maps.Keys(served)) {
		if !documented[route] {
			t.Errorf("%s is not in docs/openapi.yaml", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(documented)) {
		if !served[route] {
			t.Errorf("%s is in docs/openapi.yaml, and nowhere else", route)
		}
	}
}

// TestOpenAPIReferences: whatever docs/openapi.yaml refers to is in it.
func TestOpenAPIReferences(t *testing.T) {
	root := openAPI(t).Content[0]
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if ref := child(n, "$ref"); ref != nil {
			at := root
			for part := range strings.SplitSeq(strings.TrimPrefix(ref.Value, "#/"), "/") {
				if at = child(at, part); at == nil {
					t.Errorf("line %d: there is no %s", ref.Line, ref.Value)
					return
				}
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(root)
}

// openAPI reads docs/openapi.yaml.
func openAPI(t *testing.T) *yaml.Node {
	t.Helper()
	raw, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return &doc
}

// child is what a mapping has under a key; nil for nothing.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
