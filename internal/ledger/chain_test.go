package ledger

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people are identities by name, from fixed seeds.
var people = func() map[string]*crypto.Identity {
	all := map[string]*crypto.Identity{}
	for i, name := range []string{"alice", "bob", "carol", "dave", "eve"} {
		id, err := crypto.NewIdentity([32]byte{'p', byte(i)})
		if err != nil {
			panic(err)
		}
		all[name] = id
	}
	return all
}()

func key(name string) crypto.PublicKey { return people[name].Key() }

func nameOf(k crypto.PublicKey) string {
	for name, id := range people {
		if id.Key() == k {
			return name
		}
	}
	return k.String()
}

// t0 is when the tests' entries begin; each is a minute later than the one before.
var t0 = time.UnixMilli(1_700_000_000_000).UTC()

func at(seq uint64) time.Time { return t0.Add(time.Duration(seq) * time.Minute) }

// sign makes an entry that says whatever it is told to, as an attacker can.
func sign(t testing.TB, s *State, by *crypto.Identity, op string, body any, change func(p *entryPayload)) []byte {
	t.Helper()
	raw, err := crypto.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	p := entryPayload{
		V: 1, Seq: crypto.Number(s.Head.Seq + 1), Time: crypto.Number(at(s.Head.Seq + 1).UnixMilli()), By: by.Key(), Op: op, Body: raw,
	}
	if s.Head.Seq > 0 {
		p.Log, p.Prev = s.ID[:], s.Head.Hash[:]
	}
	if change != nil {
		change(&p)
	}
	payload, err := crypto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return by.Sign(crypto.KindEntry, payload)
}

// verdicts are the words for how an entry ends.
var verdicts = map[string]error{
	"denied": ErrNotAllowed, "rule": ErrRule, "place": ErrPlace, "newer": ErrNewer, "encoding": crypto.ErrEncoding,
}

// play folds a log drawn as text, an entry a line:
//
//	WHO OP ARGS…            an entry that must be accepted
//	WHO OP ARGS… ! VERDICT  one that must be refused
//	= WHO:ROLE …            what the log must have folded to by then
//
// Room ops take NAME:ROLE or names, and "rekey" (or "rekey:EPOCH", "rekey:noprev") where the entry
// carries one. What follows # is a comment.
func play(t *testing.T, text string) *State {
	t.Helper()
	return watch(t, text, func(*State, *Entry) {})
}

// watch is play, with a look at every entry that is accepted.
func watch(t *testing.T, text string, look func(s *State, e *Entry)) *State {
	t.Helper()
	s := new(State)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line, verdict, refused := strings.Cut(strings.TrimSpace(line), "!")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "=" {
			slices.Sort(words[1:])
			if got := standing(s); got != strings.Join(words[1:], " ") {
				t.Errorf("after entry %d it is %s, want %s", s.Head.Seq, got, strings.Join(words[1:], " "))
			}
			continue
		}
		op, body := drawn(s, words[1], words[2:])
		statement := sign(t, s, people[words[0]], op, body, nil)
		before := s.Head
		e, err := apply(s, statement)
		if !refused {
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if e.Op != op || e.By != key(words[0]) || e.Log != s.ID || s.Head != (Head{e.Seq, e.Hash}) || e.Prev != before.Hash {
				t.Fatalf("%q: entry %+v", line, e)
			}
			look(s, e)
			continue
		}
		var invalid *Invalid
		if want := verdicts[strings.TrimSpace(verdict)]; want == nil || !errors.As(err, &invalid) || !errors.Is(err, want) || invalid.Seq != before.Seq+1 {
			t.Fatalf("%q: %v, want %q", line, err, verdict)
		}
		if s.Head != before {
			t.Fatalf("%q: a refused entry changed the state", line)
		}
	}
	return s
}

// standing tells who has which role.
func standing(s *State) string {
	var out []string
	if s.Bus != nil {
		for u := range s.Bus.Users {
			role := string(u.Role)
			if !u.Active {
				role = "revoked"
			}
			out = append(out, u.Name+":"+role)
		}
	} else {
		for k, r := range s.Room.Members() {
			out = append(out, nameOf(k)+":"+string(r))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// drawing is an entry as it is drawn, for the log of s.
type drawing struct {
	s     *State
	words []string
	rekey *Rekey // nil for none
}

// drawn reads one entry of a drawn log: its op, and its body.
func drawn(s *State, name string, args []string) (op string, body any) {
	d := drawing{s: s}
	for _, a := range args {
		if how, ok := strings.CutPrefix(a, "rekey"); ok {
			d.rekey = drawnRekey(s, strings.TrimPrefix(how, ":"))
		} else {
			d.words = append(d.words, a)
		}
	}
	draw := bodies[name]
	switch {
	case draw == nil: // an op that nobody knows
		return name, Leave{}
	case name == "user":
		return "role", draw(d)
	}
	return name, draw(d)
}

// bodies are the ops that can be drawn. An op of both kinds of log is drawn as user in that of the bus.
var bodies = map[string]func(d drawing) any{
	"found":   func(d drawing) any { return Found{Name: d.words[0], Key: key(d.words[0])} },
	"add":     func(d drawing) any { return d.add() },
	"revoke":  func(d drawing) any { return Revoke{Keys: d.keys()} },
	"user":    func(d drawing) any { name, role := d.pair(0); return UserRole{Key: key(name), Role: role} },
	"set":     func(d drawing) any { return d.set() },
	"create":  func(d drawing) any { return drawnCreate(d.words) },
	"invite":  func(d drawing) any { return d.invite() },
	"remove":  func(d drawing) any { return Remove{Keys: d.keys(), Rekey: d.rekey} },
	"leave":   func(drawing) any { return Leave{} },
	"role":    func(d drawing) any { name, role := d.pair(0); return MemberRole{Key: key(name), Role: role} },
	"rekey":   func(d drawing) any { return drawnRekey(d.s, strings.Join(d.words, "")) },
	"policy":  func(d drawing) any { return d.policy() },
	"archive": func(drawing) any { return Archive{} },
}

// pair is what the i-th word says: NAME:ROLE.
func (d drawing) pair(i int) (name string, role Role) {
	name, as, _ := strings.Cut(d.words[i], ":")
	return name, Role(as)
}

func (d drawing) keys() []crypto.PublicKey {
	keys := []crypto.PublicKey{}
	for i := range d.words {
		name, _ := d.pair(i)
		keys = append(keys, key(name))
	}
	return keys
}

// add has users as NAME:ROLE, or NAME=WHO:ROLE for one under another name.
func (d drawing) add() Add {
	add := Add{Users: []NewUser{}}
	for i := range d.words {
		name, role := d.pair(i)
		as, _, _ := strings.Cut(name, "=")
		add.Users = append(add.Users, NewUser{Key: key(strings.TrimPrefix(name, as+"=")), Name: as, Role: role})
	}
	return add
}

// set has changes as WHO=NAME, WHO@MINUTE for an end at that minute, WHO@never, or WHO for none.
func (d drawing) set() SetUsers {
	set := SetUsers{Users: []UserChange{}}
	for _, w := range d.words {
		var c UserChange
		who, end, ends := strings.Cut(w, "@")
		who, name, renamed := strings.Cut(who, "=")
		c.Key = key(who)
		if renamed {
			c.Name = &name
		}
		if ends {
			ms := crypto.Number(0)
			if n, err := strconv.ParseUint(end, 10, 32); err == nil {
				ms = crypto.Number(at(n).UnixMilli())
			}
			c.Expires = &ms
		}
		set.Users = append(set.Users, c)
	}
	return set
}

func (d drawing) invite() Invite {
	in := Invite{Members: []NewMember{}, Rekey: d.rekey}
	for i := range d.words {
		name, role := d.pair(i)
		in.Members = append(in.Members, NewMember{key(name), role})
	}
	return in
}

func (d drawing) policy() SetPolicy {
	p := d.s.Room.Policy
	edit(&p, d.words)
	return SetPolicy{Policy: p, Rekey: d.rekey, Anew: slices.Contains(d.words, "anew")}
}

// edit changes a policy as words say; a word that means nothing is a history that there is not.
func edit(p *Policy, words []string) {
	for _, w := range words {
		switch w {
		case HistoryJoined, HistoryShared:
			p.History = w
		case EncryptionE2E, EncryptionNone:
			p.Encryption = w
		case "pad":
			p.Pad = true
		case "rot13":
			p.Encryption = w
		case "anew":
		case "live":
			p.Retain = nil
		case "stored":
			p.Retain = DefaultPolicy().Retain
		default:
			if limits, ok := strings.CutPrefix(w, "retain="); ok {
				p.Retain = retention(limits)
				continue
			}
			p.History = w
		}
	}
}

// drawnCreate is a room with a subject and a policy, with or without what a first entry needs.
func drawnCreate(words []string) Create {
	c := Create{Bus: crypto.ID{1}, Subject: words[0], Policy: DefaultPolicy(), Nonce: make([]byte, 16)}
	commit := crypto.RoomKey{1}.Commit(1)
	c.Commit = &commit
	edit(&c.Policy, slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.HasPrefix(w, "with") }))
	if !c.Policy.Encrypted() {
		c.Commit = nil
	}
	switch {
	case slices.Contains(words, "with-commit"):
		c.Commit = &commit
	case slices.Contains(words, "without-commit"):
		c.Commit = nil
	case slices.Contains(words, "with-short-nonce"):
		c.Nonce = c.Nonce[1:]
	}
	return c
}

// drawnRekey is the right next one, unless told otherwise.
func drawnRekey(s *State, how string) *Rekey {
	epoch := s.Room.Epoch().Number + 1
	k := &Rekey{Epoch: epoch, Previous: make([]byte, crypto.PreviousSize)}
	if s.Room.Policy.History == HistoryJoined {
		k.Previous = nil
	}
	switch how {
	case "":
	case "noprev":
		k.Previous = nil
	case "prev":
		k.Previous = make([]byte, crypto.PreviousSize)
	case "shortprev":
		k.Previous = make([]byte, crypto.PreviousSize-1)
	default:
		n, err := strconv.ParseUint(how, 10, 32)
		if err != nil {
			panic(err)
		}
		k.Epoch = uint32(n)
	}
	k.Commit = crypto.RoomKey{byte(k.Epoch)}.Commit(k.Epoch)
	return k
}
