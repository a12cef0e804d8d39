// Package storetest is the conformance suite that every store passes: Run, over a fresh store for each of its checks. A
// failure names the promise of package store that was broken, then what came instead. Each part of store.Store has a file
// here of the same name; world.go is the bus that checks happen on, and its people.
//
// What is special to a store (its files, its servers, what a crash leaves of it) is tried in its own package; for that
// there are tools here that several of them use: KillSelf, Killed, DamagedFile, Write.
package storetest

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// Subject is a store under test, and what the suite has to know of it.
type Subject struct {
	// Admin founded, or is to found, the bus; the store is Open's to found if Founded is false.
	Admin *crypto.Identity
	// As opens the store as one user sees it; a backend without users returns the same store always.
	// The suite does not close it.
	As func(id *crypto.Identity) store.Store
	// Break makes the backend unable to answer, for good.
	Break func()
	// Staged counts the sealed copies of a key, committed or not; nil where only the store itself knows.
	Staged func(t *testing.T, room crypto.ID, epoch uint32, commit crypto.Hash) int
	// OpTimeout is the backend's.
	OpTimeout time.Duration
	// Founded says that the bus stands already.
	Founded bool
	// OwnKeysOnly says that a user is given only its own sealed keys.
	OwnKeysOnly bool
}

// Run runs the suite; open makes a fresh store for each check. Through a service (Founded) it tries the service's
// refusals as well, and leaves out what only a store.Backend can be asked.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for name, f := range map[string]func(*testing.T, *world){
		"room round trip": testRoom,
		"rekey":           testRekey,
		"racing keys":     testRacingKeys,
		"allowlist":       testAllowlist,
		"not found":       testNotFound,
		"rooms of":        testRoomsOf,
		"created":         testCreated,
		"listed at":       testListedAt,
		"copying":         testCopying,
		"race":            testRace,
		"append":          testAppend,
		"forked":          testForked,
		"names":           testNames,
		"heads":           testHeads,
		"card":            testCard,
		"cards":           testCards,
		"kept keys":       testKeptKeys,
		"sealers":         testSealers,
		"many sealers":    testManySealers,
		"staged keys":     testStagedKeys,
		"staged again":    testStagedAgain,
		"unstaged keys":   testUnstagedKeys,
		"watch":           testWatch,
		"paging":          testPaging,
		"rooms after":     testRoomsAfter,
		"broken":          testBroken,
		"cancelled":       testCancelled,
	} {
		t.Run(name, func(t *testing.T) { f(t, newWorld(t, open(t))) })
	}
}
