package dev

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// This file holds the house of CONTRIBUTING.md against the imports of every file that is not a test. The tables below
// are the rule; importsOf reads what the files say, for every system they are built for.

const module = "github.com/unibus/unibus"

// floor is one floor of the house: packages, and what they may import of the module, by the names of floors.
type floor struct {
	name     string
	packages []string // folders; "/..." takes those below, too
	may      []string
}

// floors are the house from its roof to its ground: arrows point down. The first floor that has a package is its own.
var floors = []floor{
	{"main", []string{"cmd/...", "internal/gen"}, []string{"cli"}},
	{"pictures", []string{"internal/pictures"}, []string{"ground"}}, // which runs the program as people do
	{"examples", []string{"examples/..."}, []string{"unibus"}},
	{"tests", []string{"internal/attack", "bench/...", "test/..."}, []string{"tests", "bench", "unibus", "service", "admin", "bus", "stores", "store", "ledger", "crypto", "ground"}},

	{"cli", []string{"internal/cli/..."}, []string{"cli", "bench", "unibus", "service", "admin", "bus", "open", "store", "ledger", "remedy", "crypto", "ground"}},
	{"bench", []string{"internal/bench"}, []string{"unibus", "service", "bus", "crypto"}},
	{"unibus", []string{"."}, []string{"reader", "writer", "room", "mirror", "inbox", "pins", "bus", "open", "stores", "store", "ledger", "remedy", "crypto", "ground"}},

	{"roomtest", []string{"internal/roomtest"}, []string{"room", "mirror", "pins", "service", "bus", "stores", "store", "ledger", "crypto", "ground"}},
	{"reader", []string{"internal/reader"}, []string{"room", "inbox", "pins", "bus", "store", "ledger", "remedy", "crypto", "ground"}},
	{"writer", []string{"internal/writer"}, []string{"room", "outbox", "bus", "store", "ledger", "remedy", "crypto", "ground"}},
	{"room", []string{"internal/room"}, []string{"mirror", "pins", "store", "ledger", "remedy", "crypto", "ground"}},

	{"service", []string{"internal/service/..."}, []string{"service", "bus", "open", "stores", "store", "ledger", "crypto", "ground"}},
	{"admin", []string{"internal/admin/..."}, []string{"admin", "inbox", "bus", "open", "stores", "store", "ledger", "remedy", "crypto", "ground"}},

	{"mirror", []string{"internal/mirror"}, []string{"pins", "store", "ledger", "remedy", "crypto", "ground"}},
	{"inbox", []string{"internal/inbox"}, []string{"ledger", "crypto"}},
	{"outbox", []string{"internal/outbox"}, []string{"crypto"}},
	{"pins", []string{"internal/pins"}, []string{"stores", "store", "ledger", "crypto", "ground"}},

	{"bus", []string{"internal/bus"}, []string{"direct", "store", "ledger", "crypto", "ground"}},
	{"open", []string{"internal/store/open"}, []string{"stores", "store", "ledger", "crypto", "ground"}},
	{"stores", []string{"internal/store/sqlite", "internal/store/jetstream", "internal/store/remote", "internal/store/storetest"},
		[]string{"stores", "direct", "store", "ledger", "crypto", "ground"}},
	{"direct", []string{"internal/direct"}, []string{"store"}},
	{"store", []string{"internal/store"}, []string{"ledger", "crypto"}},
	{"ledger", []string{"internal/ledger"}, []string{"crypto"}},
	{"remedy", []string{"internal/remedy"}, []string{"crypto"}},
	{"crypto", []string{"internal/crypto"}, nil},

	// What knows nothing of unibus: a library might have it.
	{"ground", []string{"dev", "internal/errlist", "internal/freeport", "internal/host", "internal/newfile", "internal/patience", "internal/redact", "internal/servers", "internal/shown", "internal/tasks", "internal/termsvg", "internal/tmux", "internal/vectors"}, nil},
}

// foreign are the libraries that only some packages may import, and those packages.
var foreign = []struct {
	library  string // the beginning of import paths
	packages []string
}{
	{"github.com/nats-io/nats", []string{
		"internal/bus", "internal/direct", "internal/store/jetstream", "internal/store/open", "internal/service", "internal/admin",
		"internal/attack", "internal/bench", "bench/store", "test/...", // which speak NATS themselves
	}},
	{"github.com/nats-io/jsm.go", []string{"internal/bus"}},
	{"github.com/nats-io/jwt", []string{"internal/service"}},
	{"github.com/nats-io/nkeys", []string{"internal/crypto", "internal/bus", "internal/service", "bench/store"}}, // keys alone, no connection
	{"database/sql", []string{"internal/store/sqlite", "internal/pins", "internal/store/storetest"}},             // the last one damages a file
	{"modernc.org/sqlite", []string{"internal/store/sqlite", "internal/pins"}},
}

// exceptions are arrows that go against the tables still, "from -> to". One that is no longer needed fails, too.
var exceptions = []string{
	"internal/cli -> github.com/nats-io/nats.go", // it tells a server that insists on TLS by the client's own error
}

func TestArrows(t *testing.T) {
	needed := map[string]bool{}
	full := map[string]bool{}
	for _, a := range arrows(t) {
		own := floorOf(a.from)
		if own == nil {
			t.Errorf("%s stands on no floor: add it to floors in dev/arrows_test.go, and to CONTRIBUTING.md", a.from)
			continue
		}
		full[own.name] = true
		why := against(own, a)
		switch {
		case why == "":
		case slices.Contains(exceptions, a.String()):
			needed[a.String()] = true
		default:
			t.Errorf("%s: %s (%s)", a, why, a.file)
		}
	}
	for _, e := range exceptions {
		if !needed[e] {
			t.Errorf("the exception %q is not needed any more", e)
		}
	}
	for _, f := range floors {
		if !full[f.name] {
			t.Errorf("nothing stands on the floor %s any more", f.name)
		}
	}
}

// TestAgainst: arrows that are known to be wrong are told, so that the table cannot say less than it seems to.
func TestAgainst(t *testing.T) {
	for text, wrong := range map[string]bool{
		"internal/crypto -> internal/ledger":                       true,
		"internal/ledger -> internal/store":                        true,
		"internal/store -> internal/bus":                           true,
		"internal/bus -> internal/service":                         true,
		"internal/service -> .":                                    true,
		"internal/admin -> internal/service":                       true,
		"internal/inbox -> internal/store":                         true,
		". -> internal/service":                                    true,
		". -> internal/cli":                                        true,
		"examples/echobot -> internal/bus":                         true,
		"cmd/unibus -> .":                                          true,
		". -> github.com/nats-io/nats.go":                          true,
		"internal/store/sqlite -> github.com/nats-io/nats.go":      true,
		"internal/store/remote -> database/sql":                    true,
		"internal/ledger -> internal/crypto":                       false,
		"internal/store/jetstream -> github.com/nats-io/nats.go":   false,
		"internal/store/sqlite -> database/sql":                    false,
		"internal/cli/demo -> .":                                   false,
		"internal/bus -> github.com/nats-io/nats-server/v2/server": false,
	} {
		from, to, _ := strings.Cut(text, " -> ")
		if got := against(floorOf(from), arrow{from: from, to: to}); (got != "") != wrong {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// arrow is one import: folders of the module, or the path of a library.
type arrow struct{ from, to, file string }

func (a arrow) String() string { return a.from + " -> " + a.to }

// against says why an arrow is against the tables; empty when it is not.
func against(own *floor, a arrow) string {
	for _, f := range foreign {
		if strings.HasPrefix(a.to, f.library) && !within(a.from, f.packages) {
			return "only " + strings.Join(f.packages, ", ") + " may import it"
		}
	}
	if strings.Contains(a.to, ".") && a.to != "." || !inModule(a.to) {
		return ""
	}
	of := floorOf(a.to)
	if of == nil {
		return "what it imports stands on no floor"
	}
	if !slices.Contains(own.may, of.name) && !(own.name == of.name && own.name == "ground") {
		return own.name + " may import " + strings.Join(own.may, ", ") + ", but not " + of.name
	}
	return ""
}

// inModule reports whether a path is a folder of this module, rather than the standard library's.
func inModule(p string) bool {
	return p == "." || floorOf(p) != nil || strings.HasPrefix(p, "internal/")
}

// floorOf is the first floor that has a package; nil for none.
func floorOf(pkg string) *floor {
	for i := range floors {
		if within(pkg, floors[i].packages) {
			return &floors[i]
		}
	}
	return nil
}

// within reports whether a package is one of those that patterns name.
func within(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, ok := strings.CutSuffix(p, "/...")
		return pkg == below || ok && strings.HasPrefix(pkg, below+"/")
	})
}

// arrows are the imports of all files but tests, one for each pair, of the module and of libraries.
func arrows(t *testing.T) []arrow {
	var all []arrow
	seen := map[string]bool{}
	for _, file := range goFiles(t) {
		if isTest(file) {
			continue
		}
		for _, to := range imports(t, parse(t, file).File) {
			if inner, ok := strings.CutPrefix(to, module); ok {
				to = path.Clean("." + inner)
			}
			if a := (arrow{path.Dir(file), to, file}); !seen[a.String()] {
				seen[a.String()] = true
				all = append(all, a)
			}
		}
	}
	return all
}
