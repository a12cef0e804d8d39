package ledger

import (
	"maps"
	"reflect"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// MaxMembers is the most members a room may have.
const MaxMembers = 10_000

func (r Role) inRoom() bool { return r.Writes() || r == RoleReader }

// Writes reports whether a member of this role may publish.
func (r Role) Writes() bool { return r == RoleOwner || r == RoleAdmin || r == RoleMember }

// Manages reports whether a member of this role may invite, remove and rekey.
func (r Role) Manages() bool { return r == RoleOwner || r == RoleAdmin }

// Room is what a room log folds to.
type Room struct {
	Bus      crypto.ID
	Subject  string
	Policy   Policy    // in force now
	Terms    []Term    // of all policies, in their order
	Archived uint64    // the seq that archived it; 0: open
	Left     bool      // someone left since the epoch began: stale
	Anew     uint64    // the entry with which what is stored begins: the first, or the last that says so
	AnewTime time.Time // that this entry claims; zero for the first
	Epochs   []Epoch
	members  map[crypto.PublicKey]Role
	owners   int
	history  map[crypto.PublicKey][]span
}

// Epoch is the reign of one room key. The first is Epochs[0], number 1.
type Epoch struct {
	Number   uint32
	Seq      uint64      // the entry that began it
	Commit   crypto.Hash // zero in a room without encryption
	Previous []byte      // the key before, under this one; nil where history is not shared
	By       crypto.PublicKey
	Time     time.Time
}

// Term says that from an entry on a policy is in force, until the next term begins.
type Term struct {
	Seq    uint64
	Policy Policy
}

// span says that from an entry on somebody had a role; empty: none.
type span struct {
	Seq  uint64
	Role Role
}

// Creator is the author of the room's first entry, member or not.
func (r *Room) Creator() crypto.PublicKey { return r.Epochs[0].By }

// Epoch is the current epoch.
func (r *Room) Epoch() Epoch { return r.Epochs[len(r.Epochs)-1] }

// EpochAt is the epoch at a seq that the log reaches.
func (r *Room) EpochAt(seq uint64) Epoch {
	i := len(r.Epochs) - 1
	for i > 0 && r.Epochs[i].Seq > seq {
		i--
	}
	return r.Epochs[i]
}

// PolicyAt is the policy in force at a seq that the log reaches, from 1 on.
func (r *Room) PolicyAt(seq uint64) Policy {
	i := len(r.Terms) - 1
	for i > 0 && r.Terms[i].Seq > seq {
		i--
	}
	return r.Terms[i].Policy
}

func (r *Room) setPolicy(p Policy, seq uint64) {
	r.Policy = p
	r.Terms = append(r.Terms, Term{seq, p})
}

// Role is a key's present role; empty for someone who is no member.
func (r *Room) Role(key crypto.PublicKey) Role { return r.members[key] }

// RoleAt is a key's role at a seq that the log reaches.
func (r *Room) RoleAt(key crypto.PublicKey, seq uint64) Role {
	spans := r.history[key]
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Seq <= seq {
			return spans[i].Role
		}
	}
	return ""
}

// Joined is the entry by which a key first became a member, and when that was at the earliest: when the last epoch
// had begun by then. Zero for someone who never was one.
func (r *Room) Joined(key crypto.PublicKey) (seq uint64, when time.Time) {
	spans := r.history[key]
	if len(spans) == 0 {
		return 0, time.Time{}
	}
	return spans[0].Seq, r.EpochAt(spans[0].Seq).Time
}

// Known reports whether a key is or was a member.
func (r *Room) Known(key crypto.PublicKey) bool { return len(r.history[key]) > 0 }

// Members returns the present members and their roles.
func (r *Room) Members() map[crypto.PublicKey]Role { return maps.Clone(r.members) }

func (r *Room) set(key crypto.PublicKey, role Role, seq uint64) {
	if r.members[key] == RoleOwner {
		r.owners--
	}
	if role == RoleOwner {
		r.owners++
	}
	if role == "" {
		delete(r.members, key)
	} else {
		r.members[key] = role
	}
	r.history[key] = append(r.history[key], span{seq, role})
}

// Create is a room log's first entry; its author becomes the owner.
type Create struct {
	Bus     crypto.ID    `cbor:"bus" json:"bus"`
	Subject string       `cbor:"subject" json:"subject"`
	Policy  Policy       `cbor:"policy" json:"policy"`
	Nonce   []byte       `cbor:"nonce" json:"nonce"` // 16 bytes, so that no two rooms share an id
	Commit  *crypto.Hash `cbor:"commit,omitempty" json:"commit,omitempty"`
}

func (c *Create) check(s *State, _ crypto.PublicKey) error {
	if s.Head.Seq != 0 {
		return breaks("the room is created already")
	}
	if err := ValidSubject(c.Subject); err != nil {
		return err
	}
	if err := c.Policy.check(); err != nil {
		return err
	}
	if len(c.Nonce) != 16 {
		return breaks("the nonce has 16 bytes")
	}
	if (c.Commit != nil) != c.Policy.Encrypted() {
		return breaks("an encrypted room, and no other, begins with a key commitment")
	}
	return nil
}

func (c *Create) apply(s *State, e *Entry) {
	first := Epoch{Number: 1, Seq: 1, By: e.By, Time: e.Time}
	if c.Commit != nil {
		first.Commit = *c.Commit
	}
	s.Room = &Room{
		Bus: c.Bus, Subject: c.Subject, Epochs: []Epoch{first}, Anew: 1,
		members: map[crypto.PublicKey]Role{}, history: map[crypto.PublicKey][]span{},
	}
	s.Room.setPolicy(c.Policy, 1)
	s.Room.set(e.By, RoleOwner, 1)
}

// Rekey begins a new epoch: an entry of its own, or a part of one that changes who may read.
type Rekey struct {
	Epoch    uint32      `cbor:"epoch" json:"epoch"`
	Commit   crypto.Hash `cbor:"commit" json:"commit"`
	Previous []byte      `cbor:"previous,omitempty" json:"previous,omitempty"`
}

func (k *Rekey) check(s *State, by crypto.PublicKey) error {
	if !s.Room.Role(by).Manages() {
		return denied("only an owner or admin rekeys")
	}
	return k.rules(s.Room, s.Room.Policy.History)
}

// rules checks a rekey in an entry after which history is as given.
func (k *Rekey) rules(r *Room, history string) error {
	if !r.Policy.Encrypted() {
		return breaks("a room without encryption has no key to change")
	}
	if k.Epoch != r.Epoch().Number+1 {
		return breaks("the next epoch is %d, not %d", r.Epoch().Number+1, k.Epoch)
	}
	shared := r.Policy.History == HistoryShared && history == HistoryShared
	if shared && len(k.Previous) != crypto.PreviousSize || !shared && len(k.Previous) != 0 {
		return breaks("a rekey carries the previous key exactly where history is shared")
	}
	return nil
}

func (k *Rekey) apply(s *State, e *Entry) {
	s.Room.Left = false
	s.Room.Epochs = append(s.Room.Epochs, Epoch{
		Number: k.Epoch, Seq: e.Seq, Commit: k.Commit, Previous: k.Previous, By: e.By, Time: e.Time,
	})
}

// NewEpoch returns the epoch that an entry after a room's first begins; nil when it begins none.
func (e *Entry) NewEpoch() *Rekey {
	switch b := e.Body.(type) {
	case *Rekey:
		return b
	case *Invite:
		return b.Rekey
	case *Remove:
		return b.Rekey
	case *SetPolicy:
		return b.Rekey
	}
	return nil
}

// checkRekey checks the rekey of an entry that may, or must, have one.
func checkRekey(r *Room, k *Rekey, history string, must bool, why string) error {
	if k != nil {
		return k.rules(r, history)
	}
	if must && r.Policy.Encrypted() {
		return breaks("%s: an encrypted room must rekey in the same entry", why)
	}
	return nil
}

// Invite adds members.
type Invite struct {
	Members []NewMember `cbor:"members" json:"members"`
	Rekey   *Rekey      `cbor:"rekey,omitempty" json:"rekey,omitempty"`
}

// NewMember is one member of an Invite.
type NewMember struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

func (i *Invite) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if !role.Manages() {
		return denied("only an owner or admin invites")
	}
	keys := make([]crypto.PublicKey, len(i.Members))
	for n, m := range i.Members {
		keys[n] = m.Key
		if !m.Role.inRoom() {
			return breaks("a member's role is owner, admin, member or reader")
		}
		if m.Role.Manages() && role != RoleOwner {
			return denied("only an owner invites an %s", m.Role)
		}
		if s.Room.Role(m.Key) != "" {
			return breaks("%s is already a member", m.Key)
		}
	}
	if err := distinct(keys); err != nil {
		return err
	}
	if len(s.Room.members)+len(keys) > MaxMembers {
		return breaks("a room has at most %d members", MaxMembers)
	}
	history := s.Room.Policy.History
	return checkRekey(s.Room, i.Rekey, history, history == HistoryJoined, "an invitation where history is joined")
}

func (i *Invite) apply(s *State, e *Entry) {
	for _, m := range i.Members {
		s.Room.set(m.Key, m.Role, e.Seq)
	}
	applyRekey(s, e, i.Rekey)
}

func applyRekey(s *State, e *Entry, k *Rekey) {
	if k != nil {
		k.apply(s, e)
	}
}

// Remove ends memberships.
type Remove struct {
	Keys  []crypto.PublicKey `cbor:"keys" json:"keys"`
	Rekey *Rekey             `cbor:"rekey,omitempty" json:"rekey,omitempty"`
}

func (m *Remove) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if !role.Manages() {
		return denied("only an owner or admin removes members")
	}
	if err := distinct(m.Keys); err != nil {
		return err
	}
	owners := s.Room.owners
	for _, key := range m.Keys {
		target := s.Room.Role(key)
		if target == "" {
			return breaks("%s is not a member", key)
		}
		if target.Manages() && role != RoleOwner {
			return denied("only an owner removes an %s", target)
		}
		if target == RoleOwner {
			owners--
		}
	}
	if owners == 0 {
		return breaks("the last owner cannot be removed")
	}
	return checkRekey(s.Room, m.Rekey, s.Room.Policy.History, true, "a removal")
}

func (m *Remove) apply(s *State, e *Entry) {
	for _, key := range m.Keys {
		s.Room.set(key, "", e.Seq)
	}
	applyRekey(s, e, m.Rekey)
}

// SameChange reports whether two bodies change the same, whatever keys they hand out.
func SameChange(a, b Body) bool { return reflect.DeepEqual(withoutKey(a), withoutKey(b)) }

func withoutKey(b Body) any {
	switch b := b.(type) {
	case *Rekey:
		return Rekey{}
	case *Invite:
		return Invite{Members: b.Members}
	case *Remove:
		return Remove{Keys: b.Keys}
	case *SetPolicy:
		plain := *b
		plain.Rekey = nil
		return plain
	}
	return b
}

// Leave ends its author's own membership.
type Leave struct{}

func (*Leave) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if role == "" {
		return denied("only a member leaves")
	}
	if role == RoleOwner && s.Room.owners == 1 {
		return breaks("the last owner cannot leave")
	}
	return nil
}

func (*Leave) apply(s *State, e *Entry) {
	s.Room.set(e.By, "", e.Seq)
	s.Room.Left = s.Room.Policy.Encrypted()
}

// MemberRole changes a member's role.
type MemberRole struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

func (m *MemberRole) check(s *State, by crypto.PublicKey) error {
	switch {
	case s.Room.Role(by) != RoleOwner:
		return denied("only an owner changes roles")
	case !m.Role.inRoom():
		return breaks("a member's role is owner, admin, member or reader")
	case s.Room.Role(m.Key) == "":
		return breaks("%s is not a member", m.Key)
	case m.Role != RoleOwner && s.Room.Role(m.Key) == RoleOwner && s.Room.owners == 1:
		return breaks("the last owner must stay one")
	}
	return nil
}

func (m *MemberRole) apply(s *State, e *Entry) { s.Room.set(m.Key, m.Role, e.Seq) }

// SetPolicy replaces the whole policy. With Anew it says as well that what was stored is gone, and that this was
// meant.
type SetPolicy struct {
	Policy Policy `cbor:"policy" json:"policy"`
	Rekey  *Rekey `cbor:"rekey,omitempty" json:"rekey,omitempty"`
	Anew   bool   `cbor:"anew,omitempty" json:"anew,omitempty"`
}

func (p *SetPolicy) check(s *State, by crypto.PublicKey) error {
	if s.Room.Role(by) != RoleOwner {
		return denied("only an owner changes the policy")
	}
	if err := p.Policy.check(); err != nil {
		return err
	}
	if p.Policy.Encryption != s.Room.Policy.Encryption {
		return breaks("encryption never changes")
	}
	changed := p.Policy.History != s.Room.Policy.History
	return checkRekey(s.Room, p.Rekey, p.Policy.History, changed, "changing the history")
}

func (p *SetPolicy) apply(s *State, e *Entry) {
	s.Room.setPolicy(p.Policy, e.Seq)
	if p.Anew {
		s.Room.Anew, s.Room.AnewTime = e.Seq, e.Time
	}
	applyRekey(s, e, p.Rekey)
}

// Archive ends a room for good.
type Archive struct{}

func (*Archive) check(s *State, by crypto.PublicKey) error {
	if s.Room.Role(by) != RoleOwner {
		return denied("only an owner archives the room")
	}
	return nil
}

func (*Archive) apply(s *State, e *Entry) { s.Room.Archived = e.Seq }
