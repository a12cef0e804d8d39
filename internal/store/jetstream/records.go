package jetstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file says how records are written: their keys, and their values. Most are JSON with the seq of the entry that
// they come from, so that a late writer never replaces what a later entry said; a name, or which key an epoch has, is
// plain text, and never changes.

// headKey in unibus_users says which entry of the bus log the users are current up to; a room's own
// record says so for a room.
const headKey = "_head"

// The records, as JSON. Seq is that of the entry a record comes from.
type (
	// roomRecord is written last of all records of a room's entry: up to its seq the others are there.
	roomRecord struct {
		Subject  string        `json:"subject"`
		Epoch    uint32        `json:"epoch"`
		Policy   ledger.Policy `json:"policy"`
		Archived bool          `json:"archived"`
		Seq      uint64        `json:"seq"`
	}
	// memberRecord is a membership. It stays when it ends, with an empty role: a key that is gone could be written again
	// by whoever is late.
	memberRecord struct {
		Role    ledger.Role `json:"role"`              // empty: no member any more
		Creator bool        `json:"creator,omitempty"` // of the room, member or not
		Seq     uint64      `json:"seq"`
	}
	// userRecord is a user, as the API writes one.
	userRecord struct {
		store.UserBody
		Seq uint64 `json:"seq"`
	}
	// headRecord is written last of all records of an entry of the bus log, and is what all of them have in common.
	headRecord struct {
		Seq uint64 `json:"seq"`
	}
)

// roomKey is where a room's record is kept, in unibus_rooms.
func roomKey(room crypto.ID) string { return room.String() }

// epochKey is where it is kept which key an epoch has, in unibus_rooms.
func epochKey(room crypto.ID, epoch uint32) string {
	return "epoch." + room.String() + "." + strconv.FormatUint(uint64(epoch), 10)
}

// epochRecord says which key an epoch has, and who wrote the entry that began it.
func epochRecord(commit crypto.Hash, by crypto.PublicKey) string {
	return commit.String() + " " + by.String()
}

// epochOf reads what epochRecord wrote.
func epochOf(r record) (commit crypto.Hash, by crypto.PublicKey, err error) {
	hash, author, _ := strings.Cut(string(r.value), " ")
	if commit, err = crypto.ParseHash(hash); err == nil {
		by, err = crypto.ParsePublicKey(author)
	}
	if err != nil {
		err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	return commit, by, err
}

// commitOf is the commitment in an epoch's record as it is written there; empty for none.
func commitOf(r record) string {
	commit, _, _ := strings.Cut(string(r.value), " ")
	return commit
}

// memberKey is where a membership is kept, in unibus_members.
func memberKey(room crypto.ID, endpoint crypto.PublicKey) string {
	return room.String() + "." + endpoint.String()
}

// roomsOfKey is where it is kept a second time, in unibus_rooms_by_member.
func roomsOfKey(endpoint crypto.PublicKey, room crypto.ID) string {
	return endpoint.String() + "." + room.String()
}

// subjectPrefix begins the keys that subjects have.
const subjectPrefix = "subject."

// subjectKey writes a subject in the characters keys may have.
func subjectKey(subject string) string {
	var b strings.Builder
	b.WriteString(subjectPrefix)
	for _, c := range []byte(subject) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '.', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

// decode reads a JSON record.
func decode(r record, v any) error {
	if err := json.Unmarshal(r.value, v); err != nil {
		return fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	return nil
}

// seqOf is the entry that a stored record comes from; 0 for records that never change.
func seqOf(value []byte) uint64 {
	var r headRecord
	_ = json.Unmarshal(value, &r) // text has none, and a damaged record is replaced
	return r.Seq
}

// member reads a record of unibus_members.
func member(r record) (m store.Member, room crypto.ID, err error) {
	var v memberRecord
	if err := decode(r, &v); err != nil {
		return m, room, err
	}
	id, endpoint, _ := strings.Cut(r.key, ".")
	if room, err = crypto.ParseID(id); err == nil {
		m.Endpoint, err = crypto.ParsePublicKey(endpoint)
	}
	if err != nil {
		err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	m.Role = v.Role
	return m, room, err
}

// sealedKey is where a copy of a key is kept; "*" for any endpoint or sealer.
func sealedKey(room crypto.ID, epoch uint32, commit, endpoint, sealer string) string {
	return room.String() + "." + strconv.FormatUint(uint64(epoch), 10) + "." + commit + "." + endpoint + "." + sealer
}

// sealed reads a copy.
func sealed(r record) (k store.SealedKey, err error) {
	tokens := strings.Split(r.key, ".")
	if len(tokens) != 5 {
		return k, fmt.Errorf("%w: the key %s is no sealed copy's", store.ErrDamaged, r.key)
	}
	k.Sealed = r.value
	if k.Endpoint, err = crypto.ParsePublicKey(tokens[3]); err == nil {
		k.Sealer, err = crypto.ParsePublicKey(tokens[4])
	}
	if err != nil {
		err = fmt.Errorf("%w: the key %s is no sealed copy's: %v", store.ErrDamaged, r.key, err)
	}
	return k, err
}

// cardPrefix begins the keys of cards, which stand among the sealed keys.
const cardPrefix = "card."

// cardKey is where a card is kept.
func cardKey(endpoint crypto.PublicKey) string { return cardPrefix + endpoint.String() }

// card reads the record of a card.
func card(r record) (store.Card, error) {
	endpoint, err := crypto.ParsePublicKey(strings.TrimPrefix(r.key, cardPrefix))
	if err != nil {
		return store.Card{}, fmt.Errorf("%w: the key %s is no endpoint's", store.ErrDamaged, r.key)
	}
	return store.Card{Endpoint: endpoint, Statement: r.value}, nil
}

// alike reports whether two records say the same but for the entry they come from.
func alike(a, b []byte) bool {
	strip := func(raw []byte) []byte {
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			return raw
		}
		if len(m) > 1 {
			delete(m, "seq")
		}
		out, err := json.Marshal(m)
		if err != nil {
			return raw
		}
		return out
	}
	return bytes.Equal(a, b) || bytes.Equal(strip(a), strip(b))
}
