package main

// picture is one terminal of somebody's, and what happens in it until it is drawn.
type picture struct {
	name    string // of its file
	title   string // above it
	columns int
	rows    int    // of a full screen; 0: it is none
	who     string // alice or bob
	play    func(t *terminal)
}

// pictures are all there are. There are alice, an admin, and bob; the rooms ops.alerts and ops.deploys; and what history has
// sent there.
var pictures = []picture{
	{"demo", "unibus demo", 88, 0, "alice", func(t *terminal) {
		t.types("unibus demo")
		t.waitsForPrompt()
	}},
	{"sub", "unibus sub", 88, 0, "alice", func(t *terminal) {
		t.types("unibus sub 'ops.>' --since 1h")
		t.waits("— live —")
		t.others("bob", "pub", "ops.alerts", "db1 is back to 61%")
		t.waits("61%")
		t.others("bob", "pub", "ops.deploys", "going on with eu-central")
		t.waits("eu-central")
	}},
	{"chat", "unibus chat", 88, 22, "alice", func(t *terminal) {
		t.types("unibus chat")
		t.waits("alice invited bob")
		t.others("bob", "pub", "ops.deploys", "eu-central is done, too")
		t.waits("ops.deploys     1")
		t.writes("rotating them now; nobody has to be paged")
		t.waits("(stored)")
	}},
	{"doctor", "unibus doctor", 88, 0, "bob", func(t *terminal) {
		t.types("unibus doctor")
		t.waitsForPrompt()
	}},
	{"rooms", "unibus rooms ls", 72, 0, "alice", func(t *terminal) {
		t.types("unibus rooms ls")
		t.waitsForPrompt()
	}},
	{"error", "an error, and what helps", 88, 0, "bob", func(t *terminal) {
		t.types("unibus pub ops.alert 'disk full'")
		t.waitsForPrompt()
		t.types("unibus room ls")
		t.waitsForPrompt()
	}},
}

// history are the messages that were sent before, in this order.
var history = []struct{ who, room, body string }{
	{"alice", "ops.deploys", "rolling out 2.4.1"},
	{"bob", "ops.alerts", "disk of db1 is 97% full:\n  /dev/vda1  40G  38.8G used\n  /dev/vdb1  80G  12.1G used"},
	{"alice", "ops.alerts", "looking: those are the logs of yesterday's import, which nobody has rotated"},
	{"bob", "ops.deploys", "2.4.1 is on all of eu-west"},
}
