// Package room is a room as one client works in it: what its log says, the keys of its epochs, how far it is known to
// reach, and who of those in it is not to be believed any more. It changes the log, too.
//
// What it promises: whether this client may read or write is decided by the log as verified here, never by a server's
// word; keys are kept in memory only, and are what the log commits to; a proven fork stops the room for all later
// processes. It leaves to others: messages (packages reader and writer), the rules of the log (ledger), and to verify and
// remember it (mirror, pins).
//
// A Room is opened for a Self, which is what all rooms of one client have in common. Its Keys, Usage and Alarms, and a
// Reach for each who reads or writes, have their state and its lock each to themselves.
package room

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Self is who works in rooms: one identity on one bus.
type Self struct {
	Identity *crypto.Identity
	Keyring  store.Keyring
	Pins     *pins.Pins
	Bus      *mirror.Log
	Now      func() time.Time                 // by which a room's key grows old
	Tell     func(format string, args ...any) // people

	// Excluded makes the error of whoever is not on the allowlist.
	Excluded func() error
	// Release has the connection's rights in a room gained anew by whoever uses it next. Nil without a connection.
	Release func(room crypto.ID)
}

// Key is the client's own.
func (s *Self) Key() crypto.PublicKey { return s.Identity.Key() }

// Allowlist is what the bus log says, as last verified.
func (s *Self) Allowlist() *ledger.Bus { return s.Bus.State().Bus }

// NameOf is how people call a key here: its name on the allowlist, or the key itself.
func (s *Self) NameOf(key crypto.PublicKey) string {
	if u := s.Allowlist().User(key); u != nil {
		return u.Name
	}
	return key.String()
}

// Active reports whether someone is on the allowlist now, as last verified.
func (s *Self) Active(key crypto.PublicKey) bool { return s.Allowlist().User(key).ActiveAt(time.Now()) }

// WasOut reports whether someone's access to the bus ever ended, as last verified.
func (s *Self) WasOut(key crypto.PublicKey) bool {
	return s.Allowlist().WasOut(key)
}

// Stage hands out the key that an entry needs: that of a new epoch to all members as they are then, the present one to
// those who are invited; of them to who is on the allowlist. It is mirror.Peer's.
func (s *Self) Stage(ctx context.Context, after *ledger.State, e *ledger.Entry, k *mirror.Key) error {
	var to []crypto.PublicKey
	if invite, ok := e.Body.(*ledger.Invite); ok && invite.Rekey == nil {
		for _, m := range invite.Members {
			to = append(to, m.Key)
		}
	} else {
		to = slices.Collect(maps.Keys(after.Room.Members()))
	}
	to = slices.DeleteFunc(to, func(key crypto.PublicKey) bool { return !s.Active(key) })
	return s.handOut(ctx, after.ID, k.Epoch, k.Key, to)
}

// handOut seals a key for members and stages the copies, before the entry that needs them.
func (s *Self) handOut(ctx context.Context, room crypto.ID, epoch uint32, key crypto.RoomKey, to []crypto.PublicKey) error {
	cards, fresh, err := s.cardsOf(ctx, to)
	if err != nil {
		return err
	}
	var remembered error
	var beside tasks.Group
	beside.Go(func() { remembered = s.Pins.Cards.Remember(ctx, fresh) })
	// A seal takes a fifth of a millisecond: all processors are at it, and while the service keeps some the next are sealed.
	chunks := slices.Collect(slices.Chunk(cards, sealsAtOnce))
	err = tasks.ForEach(ctx, runtime.GOMAXPROCS(0)+1, len(chunks), func(i int) error {
		copies := make([]store.SealedKey, len(chunks[i]))
		for j, card := range chunks[i] {
			sealed, err := crypto.SealKey(key, room, epoch, card.Key, card.Sealing)
			if err != nil {
				return err
			}
			copies[j] = store.SealedKey{Endpoint: card.Key, Sealed: sealed}
		}
		err := s.Keyring.PutKeys(ctx, room, epoch, key.Commit(epoch), s.Key(), copies)
		if errors.Is(err, store.ErrExists) { // handed out before, by this client or enough others, to someone who was to come, or has been here
			err = nil
		}
		return err
	})
	beside.Wait()
	return errors.Join(err, remembered)
}

// What many members are handed in one go, so that what the service does and what is done here goes on side by side.
const (
	sealsAtOnce = 200 // copies of a key
	cardsAtOnce = 250 // cards that are fetched
)

// cardsOf returns verified cards of users, in their order, and those of them that were not at hand. ErrNotFound, with a
// remedy, when one has never published it.
func (s *Self) cardsOf(ctx context.Context, keys []crypto.PublicKey) (cards, fresh []crypto.Card, err error) {
	known, err := s.knownCards(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	missing := slices.DeleteFunc(slices.Clone(keys), func(key crypto.PublicKey) bool { _, ok := known[key]; return ok })
	if fresh, err = s.fetchCards(ctx, missing); err != nil {
		return nil, nil, err
	}
	for _, card := range fresh {
		known[card.Key] = card
	}
	cards = make([]crypto.Card, len(keys))
	var without []string
	for i, key := range keys {
		card, ok := known[key]
		if !ok {
			without = append(without, s.NameOf(key))
		}
		cards[i] = card
	}
	if len(without) > 0 {
		return nil, nil, noCards(without)
	}
	return cards, fresh, nil
}

// noCards is the error of users who have never published theirs.
func noCards(names []string) error {
	who, verb := shown.Few(names), "has"
	if len(names) > 1 {
		verb = "have"
	}
	err := fmt.Errorf("%s %s not connected yet, so there is no key to seal for: %w", who, verb, store.ErrNotFound)
	return remedy.With(err, remedy.Remedy{Kind: remedy.PublishCard, User: who})
}

// knownCards returns those of the cards of keys that are at hand, one's own among them.
func (s *Self) knownCards(ctx context.Context, keys []crypto.PublicKey) (map[crypto.PublicKey]crypto.Card, error) {
	own, err := s.Identity.Card()
	if err != nil {
		return nil, err
	}
	card, err := crypto.OpenCard(own, s.Key())
	if err != nil {
		return nil, err
	}
	known, err := s.Pins.Cards.Known(ctx, keys)
	if err != nil {
		return nil, err
	}
	known[s.Key()] = card
	return known, nil
}

// fetchCards asks the store for cards, and verifies them. Those that it does not have are left out.
func (s *Self) fetchCards(ctx context.Context, keys []crypto.PublicKey) ([]crypto.Card, error) {
	chunks := slices.Collect(slices.Chunk(keys, cardsAtOnce))
	opened := make([][]crypto.Card, len(chunks))
	err := tasks.ForEach(ctx, runtime.GOMAXPROCS(0), len(chunks), func(i int) error {
		stored, err := s.Keyring.Cards(ctx, chunks[i]...)
		if err != nil {
			return err
		}
		for _, c := range stored {
			card, err := crypto.OpenCard(c.Statement, c.Endpoint)
			if err != nil {
				name := s.NameOf(c.Endpoint)
				return remedy.With(fmt.Errorf("card of %s: %w: %w", name, store.ErrIntegrity, err), remedy.Remedy{Kind: remedy.MendCard, User: name})
			}
			opened[i] = append(opened[i], card)
		}
		return nil
	})
	return slices.Concat(opened...), err
}
