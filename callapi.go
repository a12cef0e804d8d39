package unibus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/unibus/unibus/internal/remedy"
)

// CallAPI makes one request to the membership API as the client's identity, over its connection, and returns the body of the
// answer as it is. The path is one of docs/openapi.yaml; body is JSON, nil for none. What the service refuses has the kind of
// error that it has everywhere; ErrInvalid for a body that is no JSON, and straight at a store, where there is no service.
func CallAPI(ctx context.Context, c *Client, method, path string, body []byte) ([]byte, error) {
	service, ok := c.link.store.(interface {
		Do(ctx context.Context, method, path string, body []byte) ([]byte, error)
	})
	if !ok {
		return nil, remedy.With(fmt.Errorf("%w: the API is a service's, and there is none", ErrInvalid), remedy.Remedy{Kind: remedy.UseServer})
	}
	if body != nil && !json.Valid(body) {
		return nil, fmt.Errorf("%w: the body is no JSON", ErrInvalid)
	}
	return service.Do(ctx, method, path, body)
}
