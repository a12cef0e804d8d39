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
	other.Key = w.c.Key()                          // whose card it is not
	_ = publishCards(w.ctx, w.c, []NewUser{other}) // the store may refuse it
	known, err := w.c.pins.Cards.Known(w.ctx, []PublicKey{bob.Key, carol.Key, dave.Key, w.c.Key()})
	must(err)
	if _, ok := known[bob.Key]; !ok || len(known) != 1 {
		t.Errorf("%d cards are remembered", len(known))
	}
}

// TestCardsFirst: the store has the cards of who is added before their entry is offered, and gets those that it lacks of who is
// there already with a list that has them.
func TestCardsFirst(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	users := make([]NewUser, 3)
	for i := range users {
		id, err := NewIdentity()
		must(err)
		card, err := id.Card()
		must(err)
		users[i], err = ParseUser(base64.StdEncoding.EncodeToString(card))
		must(err)
	}
	has := func(want ...bool) {
		t.Helper()
		for i, want := range want {
			cards, err := w.c.link.store.Cards(w.ctx, users[i].Key)
			must(err)
			if (len(cards) == 1) != want {
				t.Errorf("of user %d the store has %d cards", i, len(cards))
			}
		}
	}
	p, err := adding(w.c, users[:1])(w.ctx, w.c.self.Bus.State())
	must(err)
	if p == nil || w.c.self.Allowlist().User(users[0].Key) != nil {
		t.Fatalf("nothing is proposed, or it is done: %+v", p)
	}
	has(true, false, false)

	must(w.c.AddUsers(w.ctx, NewUser{Key: users[1].Key}, NewUser{Key: users[2].Key}))
	has(true, false, false)
	d, err := CompareUsers(w.c.Users(), []NewUser{{Key: w.c.Key()}, users[1], {Key: users[2].Key}})
	must(err)
	if !d.Empty() {
		t.Errorf("a card is a difference: %+v", d)
	}
	must(d.Apply(w.ctx, w.c))
	has(true, true, false)
	must(PublishCards(w.ctx, w.c, users[2]))
	has(true, true, true)
}
