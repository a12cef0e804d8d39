package ledger

import "testing"

func TestWords(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		want string
	}{
		{DefaultPolicy(), "encryption e2e; history shared; stores 720h, at most 1.0 GiB"},
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
