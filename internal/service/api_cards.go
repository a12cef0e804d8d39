package service

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// cardAPI keeps the cards by which keys are sealed for people, and gives them out.
type cardAPI struct {
	keyring store.Keyring
	users   store.Allowlist
	waiting *waitingCards // of people who are not on the allowlist yet
}

// put answers PUT /cards/{endpoint}: one's own card, and for an admin anybody's.
func (a *cardAPI) put(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	var in store.CardBody
	if err := c.body(fields{"card": &in.Card}); err != nil {
		return 0, nil, err
	}
	return a.putChecked(c, store.Card{Endpoint: key, Statement: in.Card})
}

// putAll answers POST /cards as put does, for many: all of them are kept, or none.
func (a *cardAPI) putAll(c *call) (int, any, error) {
	var in store.CardsBody
	if err := c.body(fields{"cards": &in.Cards}); err != nil {
		return 0, nil, err
	}
	for _, card := range in.Cards {
		if card.Endpoint == (crypto.PublicKey{}) || card.Statement == nil {
			return 0, nil, lacking("an endpoint or a card in cards")
		}
	}
	return a.putChecked(c, in.Cards...)
}

// putChecked keeps all of the cards, or none when the caller may not put one of them.
func (a *cardAPI) putChecked(c *call, cards ...store.Card) (int, any, error) {
	if err := fewCards(len(cards)); err != nil {
		return 0, nil, err
	}
	for _, card := range cards {
		if card.Endpoint != c.caller && !c.admin {
			return 0, nil, fmt.Errorf("%w: only an admin puts the card of someone else", store.ErrDenied)
		}
	}
	bad := make([]error, len(cards))
	err := tasks.ForEach(c.Context(), runtime.GOMAXPROCS(0), len(cards), func(i int) error {
		_, bad[i] = crypto.OpenCard(cards[i].Statement, cards[i].Endpoint)
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	for _, err := range bad {
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %v", store.ErrInvalid, err)
		}
	}
	return http.StatusNoContent, nil, a.keyring.PutCards(c.Context(), cards...)
}

// fewCards refuses more cards than one request may have.
func fewCards(n int) error {
	if n > store.MaxCards {
		return fmt.Errorf("%w: at most %d cards in one request", store.ErrInvalid, store.MaxCards)
	}
	return nil
}

// get answers GET /cards/{endpoint} with a card; ErrNotFound for one that is not known.
func (a *cardAPI) get(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	cards, err := a.find(c.Context(), key)
	if err == nil && len(cards) == 0 {
		err = fmt.Errorf("card of %s: %w", key, store.ErrNotFound)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, store.CardBody{Card: cards[0].Statement}, nil
}

// query answers POST /cards/query with the cards of many, and leaves out those that are not known.
func (a *cardAPI) query(c *call) (int, any, error) {
	var in store.EndpointsBody
	if err := c.body(fields{"endpoints": &in.Endpoints}); err != nil {
		return 0, nil, err
	}
	if err := fewCards(len(in.Endpoints)); err != nil {
		return 0, nil, err
	}
	if slices.Contains(in.Endpoints, crypto.PublicKey{}) {
		return 0, nil, lacking("a key in endpoints")
	}
	cards, err := a.find(c.Context(), in.Endpoints...)
	if cards == nil {
		cards = []store.Card{}
	}
	return http.StatusOK, store.CardsBody{Cards: cards}, err
}

// find returns the cards that are known, taking over those of people who said hello before being
// allowlisted.
func (a *cardAPI) find(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	cards, err := a.keyring.Cards(ctx, endpoints...)
	if err != nil {
		return nil, err
	}
	done := map[crypto.PublicKey]bool{}
	for _, c := range cards {
		done[c.Endpoint] = true
	}
	var waiting []store.Card
	for _, key := range endpoints {
		statement := a.waiting.get(key)
		if done[key] || statement == nil {
			continue
		}
		done[key] = true
		ok, err := a.users.IsAuthorized(ctx, key)
		if err != nil {
			return nil, err
		}
		if ok {
			waiting = append(waiting, store.Card{Endpoint: key, Statement: statement})
		}
	}
	if len(waiting) == 0 {
		return cards, nil
	}
	return append(cards, waiting...), a.keyring.PutCards(ctx, waiting...)
}
