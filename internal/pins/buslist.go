package pins

import (
	"fmt"
	"maps"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store"
)

// This file is the rules of the buses that an identity knows by name, without the file that they are kept in: it changes
// a list, and buses.go reads and writes one.

// Bus is a bus that an identity knows by a name.
type Bus struct {
	Name   string
	Server string    // URLs of its servers, as they may be shown
	ID     crypto.ID // of the bus that was met there; zero: none yet, or that was forgotten
	InUse  bool      // it is where one goes who names no other
}

// Choice says whether a bus that is joined becomes the one in use.
type Choice int

// Choices.
const (
	UseIt      Choice = iota // it does
	UseIfAlone               // it does if no other is known; else what is in use, or that nothing is, stays
)

// busList are the buses that an identity knows. A name leads to a server, and no two lead to the same; which bus is there
// is what the pin of the server's address says, and nothing else.
type busList struct {
	servers map[string]string    // by name
	inUse   string               // the server of the bus in use; empty: none is
	ids     map[string]crypto.ID // what was met, by the keys of servers
}

// adopt gives the server in use a name if it has none: builds that knew one bus alone have remembered no more than that.
func (l *busList) adopt() {
	if l.inUse != "" && l.at(l.inUse) == "" {
		l.servers[l.newName(nameOf(l.inUse))] = l.inUse
	}
}

// at is the name of the bus at a server; empty for none.
func (l *busList) at(server string) string {
	for name, s := range l.servers {
		if s == server {
			return name
		}
	}
	return ""
}

// id is that of the bus that was met at a server, or at the first of several where one was met.
func (l *busList) id(server string) (id crypto.ID) {
	for _, key := range append(servers.Keys(server), server) { // the last as builds have pinned it that knew one spelling alone
		if id = l.ids[key]; !id.IsZero() {
			break
		}
	}
	return id
}

// newName is a name that is free, made of one that may not be.
func (l *busList) newName(like string) string {
	return free(like, func(name string) bool { return l.servers[name] != "" })
}

// bus is the one of a name.
func (l *busList) bus(name string) Bus {
	server := l.servers[name]
	return Bus{Name: name, Server: server, ID: l.id(server), InUse: server == l.inUse}
}

// all are the buses, by name.
func (l *busList) all() []Bus {
	buses := []Bus{}
	for _, name := range slices.Sorted(maps.Keys(l.servers)) {
		buses = append(buses, l.bus(name))
	}
	return buses
}

// FindBus is the bus that is known by a name, or that has an id: of several addresses of one bus, the one in use.
func FindBus(buses []Bus, nameOrID string) (Bus, bool) {
	if i := slices.IndexFunc(buses, func(b Bus) bool { return b.Name == nameOrID }); i >= 0 {
		return buses[i], true
	}
	id, err := crypto.ParseID(nameOrID)
	if err != nil || id.IsZero() {
		return Bus{}, false
	}
	found := Bus{}
	for _, b := range buses {
		if b.ID == id && (found.Name == "" || b.InUse) {
			found = b
		}
	}
	return found, found.Name != ""
}

// join takes note that the bus at a server was joined, and returns what it is known as: by the name it has, at this
// address or at another that it had before, or by the one that is asked for. Like is what a new name is made of.
func (l *busList) join(server, asked, like string, choice Choice) (string, error) {
	had := l.at(server)
	if b, ok := FindBus(l.all(), l.id(server).String()); had == "" && ok {
		had = b.Name
	}
	name := asked
	switch {
	case asked == "" && had == "":
		name = l.newName(like)
	case asked == "":
		name = had
	case asked != had && l.servers[asked] != "":
		return "", l.taken(asked)
	}
	before := l.servers[had]
	delete(l.servers, had)
	l.servers[name] = server
	alone := had == "" && len(l.servers) == 1
	if choice == UseIt || alone || had != "" && l.inUse == before {
		l.inUse = server
	}
	return name, nil
}

// rename gives a bus another name.
func (l *busList) rename(name, to string) error {
	switch {
	case name == to:
		return nil
	case l.servers[to] != "":
		return l.taken(to)
	}
	l.servers[to] = l.servers[name]
	delete(l.servers, name)
	return nil
}

// remove forgets a bus. If it was in use, none is from then on: which one is meant is not to be guessed.
func (l *busList) remove(name string) {
	if l.inUse == l.servers[name] {
		l.inUse = ""
	}
	delete(l.servers, name)
}

// taken is the error of a name that another bus has.
func (l *busList) taken(name string) error {
	b := l.bus(name)
	if b.ID.IsZero() {
		return fmt.Errorf("name %s: %w: a bus at %s has it", name, store.ErrExists, b.Server)
	}
	return fmt.Errorf("name %s: %w: the bus %s at %s has it", name, store.ErrExists, b.ID, b.Server)
}
