package pins

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestCards: what was remembered is known, to later processes too, and nothing else is; what was damaged is not given.
func TestCards(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	card := func(n byte) crypto.Card { return crypto.Card{Key: crypto.PublicKey{n}, Sealing: []byte{n, 1}} }
	keys := []crypto.PublicKey{{1}, {2}, {3}}
	is := func(want ...byte) {
		t.Helper()
		known, err := p.Cards.Known(ctx, keys)
		must(err)
		for _, n := range want {
			if c := known[crypto.PublicKey{n}]; c.Key != (crypto.PublicKey{n}) || string(c.Sealing) != string(card(n).Sealing) {
				t.Errorf("card %d is %+v", n, c)
			}
		}
		if len(known) != len(want) {
			t.Errorf("known are %v, want %v", known, want)
		}
	}
	is()
	must(p.Cards.Remember(ctx, nil))
	must(p.Cards.Remember(ctx, []crypto.Card{card(1), card(2)}))
	must(p.Cards.Remember(ctx, []crypto.Card{card(2), card(4)}))
	is(1, 2)
	must(p.Close())
	p = open(t, path)
	is(1, 2)

	_, err := p.db.file.ExecContext(ctx, "PRAGMA writable_schema = ON")
	must(err)
	_, err = p.db.file.ExecContext(ctx, "DROP TRIGGER cards_updating")
	must(err)
	_, err = p.db.file.ExecContext(ctx, "DROP TRIGGER cards_updated")
	must(err)
	one := keys[0]
	_, err = p.db.file.ExecContext(ctx, "UPDATE cards SET sealing = x'0909' WHERE endpoint = ?", one[:])
	must(err)
	if known, err := p.Cards.Known(ctx, keys); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged, it is given: %v, %v", known, err)
	}
}

// TestCardsInOnePage: a card has a page's room: one that goes on in another page costs a read of it with every comparison.
func TestCardsInOnePage(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "pins.db"))
	cards := make([]crypto.Card, 40)
	for i := range cards {
		cards[i] = crypto.Card{Key: crypto.PublicKey{byte(i)}, Sealing: make([]byte, crypto.SealingKeySize)}
	}
	if err := p.Cards.Remember(t.Context(), cards); err != nil {
		t.Fatal(err)
	}
	var pages, further int
	err := p.db.file.QueryRow(`SELECT count(*), total(pagetype = 'overflow') FROM dbstat WHERE name = 'cards'`).Scan(&pages, &further)
	if err != nil || pages < 2 || further > 0 {
		t.Errorf("%d of %d pages go on from others, %v", further, pages, err)
	}
}
