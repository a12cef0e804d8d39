package service

import (
	"net/http"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// userAPI says who is on the allowlist, to everyone who is.
type userAPI struct{ users store.Allowlist }

// list answers GET /users?after=&limit= with a page of the allowlist, revoked users too, by key.
func (a *userAPI) list(c *call) (int, any, error) {
	limit, err := c.number("limit", maxRecords, maxRecords)
	if err != nil {
		return 0, nil, err
	}
	var after crypto.PublicKey
	if s := c.given("after"); s != "" {
		if after, err = written(s, crypto.ParsePublicKey); err != nil {
			return 0, nil, err
		}
	}
	list := []store.UserBody{}
	for u, err := range a.users.Users(c.Context(), after) {
		if err != nil {
			return 0, nil, err
		}
		if uint64(len(list)) >= limit {
			break
		}
		list = append(list, store.NewUserBody(&u))
	}
	return http.StatusOK, list, nil
}

// get answers GET /users/{endpoint}; ErrNotFound for one who never was on the allowlist.
func (a *userAPI) get(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	u, err := a.users.User(c.Context(), key)
	return http.StatusOK, store.NewUserBody(&u), err
}
