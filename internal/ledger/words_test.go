package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		want string
	}{
		{DefaultPolicy(), "encryption e2e; history shared; stores 30d, at most 1.0 GiB"},
		{Policy{Encryption: "none", History: "joined"}, "encryption none; history joined; stores nothing"},
		{
			Policy{Encryption: "e2e", History: "shared", Pad: true, Retain: &Retain{}, RekeyAfter: RekeyAfter{Age: 5400, Messages: 7}},
			"encryption e2e; history shared; stores for ever, any size; sizes padded; key renewed after 1h30m or 7 messages",
		},
		{Policy{Encryption: "e2e", History: "shared", Retain: &Retain{Age: 1<<53 - 1}}, "encryption e2e; history shared; stores 9007199254740991s, any size"},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestBrief: of a list that is long there are the first few and how many more, beside all else that there is to say.
func TestBrief(t *testing.T) {
	var keys []crypto.PublicKey
	var added []NewUser
	var invited []NewMember
	var set []UserChange
	for i := range 200 {
		key := crypto.PublicKey{byte(i)}
		keys = append(keys, key)
		added = append(added, NewUser{Key: key, Name: fmt.Sprint("u", i), Role: RoleUser})
		invited = append(invited, NewMember{Key: key, Role: RoleMember})
		set = append(set, UserChange{Key: key, Name: new(fmt.Sprint("v", i))})
	}
	name := func(key crypto.PublicKey) string { return fmt.Sprint("u", key[0]) }
	reason := "the project is over"
	for _, c := range []struct {
		body Body
		want string
	}{
		{&Add{Users: added}, "200 users: u0 (user), u1 (user), u2 (user) and 197 more"},
		{&Add{Users: added[:5]}, "u0 (user), u1 (user), u2 (user), u3 (user), u4 (user)"},
		{&Add{Users: added[:6]}, "6 users: u0 (user), u1 (user), u2 (user) and 3 more"},
		{&Invite{Members: invited, Rekey: &Rekey{Epoch: 7}}, "200 users: u0 (member), u1 (member), u2 (member) and 197 more; epoch 7"},
		{&Remove{Keys: keys, Rekey: &Rekey{Epoch: 2}}, "200 users: u0, u1, u2 and 197 more; epoch 2"},
		{&Revoke{Keys: keys, Reason: &reason}, "200 users: u0, u1, u2 and 197 more: the project is over"},
		{&Revoke{Keys: keys[:1], Reason: &reason}, "u0: the project is over"},
		{&SetUsers{Users: set}, "200 users: u0 is called v0, u1 is called v1, u2 is called v2 and 197 more"},
		{&MemberRole{Key: keys[1], Role: RoleAdmin}, "u1 is now admin"},
	} {
		e := &Entry{Body: c.body}
		if got := e.Brief(name); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if whole := e.Words(name); strings.Contains(whole, "more") || strings.Contains(c.want, "200") && strings.Count(whole, ", ") != 199 {
			t.Errorf("it is cut short: %q", whole)
		}
	}
}
