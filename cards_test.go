package unibus

import (
	"encoding/base64"
	"testing"
)

// TestAddedCards: of users who were added the cards that were verified are remembered, and no others.
func TestAddedCards(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	added := map[string]NewUser{}
	for _, name := range []string{"bob", "carol", "dave"} {
		id, err := NewIdentity()
		must(err)
		card, err := id.Card()
		must(err)
		u, err := ParseUser(base64.StdEncoding.EncodeToString(card))
		must(err)
		u.Name = name
		added[name] = u
	}
	bob, carol, dave := added["bob"], added["carol"], added["dave"]
	carol = NewUser{Key: carol.Key, Name: carol.Name, Card: carol.Card} // nobody has looked at it
	must(w.c.AddUsers(w.ctx, bob, carol))
	other := dave
	other.Key = w.c.Key() // whose card it is not
	if err := rememberAdded(w.ctx, w.c, []NewUser{other}); err != nil {
		t.Error(err)
	}
	known, err := w.c.pins.Cards.Known(w.ctx, []PublicKey{bob.Key, carol.Key, dave.Key, w.c.Key()})
	must(err)
	if _, ok := known[bob.Key]; !ok || len(known) != 1 {
		t.Errorf("%d cards are remembered", len(known))
	}
}
