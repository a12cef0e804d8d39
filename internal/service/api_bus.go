package service

import (
	"context"
	"net/http"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// busAPI says which bus this is.
type busAPI struct {
	logs *logs
	bus  crypto.ID
}

// get answers GET /bus, to every user.
func (a *busAPI) get(c *call) (int, any, error) {
	body, err := a.body(c.Context())
	return http.StatusOK, body, err
}

// body is also what strangers are told who say hello.
func (a *busAPI) body(ctx context.Context) (store.BusBody, error) {
	s, err := a.logs.state(ctx, a.bus)
	if err != nil {
		return store.BusBody{}, err
	}
	return store.BusBody{ID: s.ID, Name: s.Bus.Name, Founded: s.Bus.Founded}, nil
}
