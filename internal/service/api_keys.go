package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// keyAPI keeps sealed copies of rooms' keys and gives them out (SPEC.md §5). It opens none of them.
type keyAPI struct {
	store   store.Log
	keyring store.Keyring
	logs    *logs
	bus     crypto.ID
	staging *staging
}

// put answers PUT /rooms/{room}/keys: copies of a key, sealed by the caller. Those of a key that an entry names are kept for
// good; of others as many as one may have staged.
func (a *keyAPI) put(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	var in store.KeysBody
	copies, err := readCopies(c, &in)
	if err != nil {
		return 0, nil, err
	}
	present := uint32(0) // there is no such room yet
	r, err := c.room(a.logs, room)
	if err == nil {
		present = r.Epoch().Number
		err = maySeal(r, c.caller, &in)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = a.creatorToBe(c, room, in)
	}
	if err == nil {
		err = a.users(c.Context(), in.Keys)
	}
	if err != nil {
		return 0, nil, err
	}
	if in.Epoch <= present { // an entry names it: a few copies for each user
		return http.StatusNoContent, nil, a.keyring.PutKeys(c.Context(), room, in.Epoch, in.Commit, c.caller, copies)
	}
	return http.StatusNoContent, nil, a.staging.put(c.Context(), c.caller, room, present, &in, copies)
}

// readCopies reads copies of a key, sealed by the caller.
func readCopies(c *call, in *store.KeysBody) ([]store.SealedKey, error) {
	if err := c.body(fields{"epoch": &in.Epoch, "commit": &in.Commit, "keys": &in.Keys}); err != nil {
		return nil, err
	}
	if in.Epoch == 0 {
		return nil, fmt.Errorf("%w: epochs are numbers from 1", store.ErrInvalid)
	}
	copies := make([]store.SealedKey, len(in.Keys))
	for i, k := range in.Keys {
		if k.Endpoint == (crypto.PublicKey{}) {
			return nil, lacking("an endpoint in keys")
		}
		if len(k.Sealed) != crypto.SealedSize {
			return nil, fmt.Errorf("%w: a sealed key has %d bytes", store.ErrInvalid, crypto.SealedSize)
		}
		copies[i] = store.SealedKey{Endpoint: k.Endpoint, Sealer: c.caller, Sealed: k.Sealed}
	}
	return copies, nil
}

// maySeal checks that somebody may keep copies of a key of a room that is there: an owner or admin those of the
// present and the next epoch, for anyone, a member its own of any epoch that the log has.
func maySeal(r *ledger.Room, sealer crypto.PublicKey, in *store.KeysBody) error {
	now := r.Epoch().Number
	manages := r.Role(sealer).Manages()
	own := r.Role(sealer) != "" && len(in.Keys) == 1 && in.Keys[0].Endpoint == sealer && in.Epoch <= now
	switch {
	case !manages && !own:
		return fmt.Errorf("%w: only an owner or admin of the room hands out keys; a member keeps its own copy of one", store.ErrDenied)
	case !r.Policy.Encrypted():
		return fmt.Errorf("%w: a room without encryption has no keys", store.ErrInvalid)
	case in.Epoch == 0 || in.Epoch > now+1 || in.Epoch < now && !own:
		return fmt.Errorf("%w: the room is at epoch %d", store.ErrConflict, now)
	case in.Epoch <= now && in.Commit != r.Epochs[in.Epoch-1].Commit:
		return fmt.Errorf("%w: epoch %d of the room has another key", store.ErrConflict, in.Epoch)
	}
	return nil
}

// users checks that copies are for people of whom the bus log knows: they are kept as long as the room.
func (a *keyAPI) users(ctx context.Context, keys []store.MembersCopy) error {
	s, err := a.logs.state(ctx, a.bus)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if s.Bus.User(k.Endpoint) == nil {
			return fmt.Errorf("%w: %s is not on the allowlist, and needs no key", store.ErrDenied, k.Endpoint)
		}
	}
	return nil
}

// creatorToBe allows the one copy that a room needs before its first entry: its creator's own. Who will sign that
// entry nobody knows yet; a copy that someone else puts there for itself is of no use to it unless it is let in, and
// never to anyone else.
func (a *keyAPI) creatorToBe(c *call, room crypto.ID, in store.KeysBody) error {
	switch _, err := store.HeadOf(c.Context(), a.store, room); {
	case err == nil: // it is there, and not for the caller to see
		return fmt.Errorf("room %s: %w", room, store.ErrNotFound)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if in.Epoch != 1 || len(in.Keys) != 1 || in.Keys[0].Endpoint != c.caller {
		return fmt.Errorf("%w: a room begins with its creator's own key", store.ErrDenied)
	}
	return nil
}

// get answers GET /rooms/{room}/keys/{epoch}, a number or latest: a member is given its copies of a key, by those who may
// seal it. A bus admin, who may read everything else, is given none of a room that it was never in.
func (a *keyAPI) get(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	var epoch uint64
	if s := c.PathValue("epoch"); s != "latest" {
		if epoch, err = strconv.ParseUint(s, 10, 32); err != nil || epoch == 0 {
			return 0, nil, fmt.Errorf("%w: an epoch is a number from 1, or latest", store.ErrInvalid)
		}
	} else {
		r, err := c.room(a.logs, room)
		if err != nil {
			return 0, nil, err
		}
		epoch = uint64(r.Epoch().Number)
	}
	copies, err := a.keyring.Key(c.Context(), room, uint32(epoch), c.caller)
	if err != nil {
		return 0, nil, err
	}
	body := store.KeyBody{Room: room, Epoch: uint32(epoch)}
	r, err := c.room(a.logs, room)
	if err != nil {
		return 0, nil, err
	}
	for _, k := range copies {
		if r.Known(c.caller) && r.MaySeal(k.Sealer, c.caller, body.Epoch) {
			body.Commit = r.Epochs[body.Epoch-1].Commit
			body.Sealed = append(body.Sealed, store.SealersCopy{Sealer: k.Sealer, Sealed: k.Sealed})
		}
	}
	if len(body.Sealed) == 0 {
		return 0, nil, fmt.Errorf("key of room %s: %w", room, store.ErrNotFound)
	}
	return http.StatusOK, body, nil
}
