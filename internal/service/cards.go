package service

import (
	"sync"

	"github.com/unibus/unibus/internal/crypto"
)

// A stranger who says hello may send its card along. It waits here until an admin has put its owner on the allowlist; who
// then seals keys for it finds it (cardAPI.find).

// maxWaiting bounds the cards of strangers that are held; the oldest go first.
const maxWaiting = 256

// cardSubject is where services tell each other of such cards; no peer may publish there.
const cardSubject = "unibus.svc.card"

// waitingCards holds the cards of people who said hello before they were allowlisted, so that they
// can be invited in the same breath as they are added. They are in memory only.
type waitingCards struct {
	mu    sync.Mutex
	cards map[crypto.PublicKey][]byte
	order []crypto.PublicKey
}

// offer keeps a card, if it is one.
func (w *waitingCards) offer(statement []byte) {
	c, err := crypto.OpenCard(statement, crypto.PublicKey{})
	if err != nil {
		return // hello is answered all the same
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cards == nil {
		w.cards = map[crypto.PublicKey][]byte{}
	}
	if w.cards[c.Key] != nil {
		return // a card never changes
	}
	if len(w.order) == maxWaiting {
		delete(w.cards, w.order[0])
		w.order = w.order[1:]
	}
	w.cards[c.Key] = statement
	w.order = append(w.order, c.Key)
}

// get is the card that somebody has offered; nil for none, or one that is forgotten by now.
func (w *waitingCards) get(key crypto.PublicKey) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cards[key]
}
