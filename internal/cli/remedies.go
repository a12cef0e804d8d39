package cli

import (
	"cmp"
	"fmt"

	"github.com/unibus/unibus/internal/remedy"
)

// This file makes commands of what the library knows would help.

// remedies are those that have no facts.
var remedies = map[remedy.Kind]string{
	remedy.MakeIdentity:     "make one: unibus init",
	remedy.StartServer:      "is it running? unibus serve; one elsewhere: unibus join URL, or --server URL",
	remedy.NameServer:       "is the name right? unibus bus ls shows the servers that you know",
	remedy.LookAtService:    "the server answers, but its service does not: it has no quorum, or is not running; whoever runs it looks with unibus doctor --keys FILE",
	remedy.LookAtStore:      hintDamagedThere,
	remedy.LookAtStream:     "whoever runs the bus looks with unibus doctor, and makes a stream that is gone anew with unibus doctor --repair; then send again",
	remedy.NameStore:        hintRestoreTo,
	remedy.StoreCredentials: "a store is for who runs the servers: --context NAME, or --keys FILE for those of a service",
	remedy.UseServer:        "leave out --store",
	remedy.AskAdmin:         "an admin of the bus can do it: unibus user ls shows who is one",
	remedy.LeaveOutUser:     "leave out what stands before the @: a bus knows people by their keys",
	remedy.CompareBus:       "unibus serve prints the id of its bus; ask whoever gave you the other one which is right",
	remedy.ListRooms:        "unibus rooms ls shows the rooms you are in",
	remedy.ListUsers:        "unibus user ls shows who is on the allowlist",
	remedy.NameOtherwise:    "give another one: --name NAME",
	remedy.ConfirmEntry:     "if it is still meant, say so: --yes",
	remedy.LeaveOut:         "leave them out",
	remedy.AskOperator:      hintAskRestored,
	remedy.ListBuses:        "unibus bus ls shows the buses that this identity knows",
	remedy.ChooseBus:        "choose one: unibus bus use NAME; or for one command: --bus NAME",
	remedy.JoinAnew:         "a client believes what it verified first; who wants the other history joins with a state directory of its own: --state DIR",
	remedy.ReadFewer:        "read fewer rooms at once",
	remedy.NameAdmin:        "make another one an admin first: unibus user set USER --role admin",
	remedy.MakeOther:        "it is archived for good; for what is to come make another one: unibus room create OTHER",
}

// hintDamagedThere is for what a bus keeps, and nobody but who runs it can mend.
const hintDamagedThere = "what the bus keeps is damaged: whoever runs it looks with unibus doctor"

// hintAskRestored is what comes before a person takes a log for what it is: nothing but a person can tell.
const hintAskRestored = "ask whoever runs the bus whether it was restored from a backup"

// hintRemedy is a remedy as commands; empty for none.
func hintRemedy(r remedy.Remedy) string {
	if hint, ok := remedies[r.Kind]; ok {
		return hint
	}
	if r.Room != "" && !r.RoomID.IsZero() && shellQuoted(r.Room) != r.Room { // the id means only itself in any shell
		r.Room = r.RoomID.String()
	}
	room := shellQuoted(r.Room)
	switch r.Kind {
	case remedy.AcceptLoss, remedy.AcceptLog, remedy.AcceptPlace, remedy.ChooseHistory:
		return hintHistory(r)
	case remedy.AllowSelf, remedy.AskWhy, remedy.AllowAgain, remedy.Extend, remedy.ExtendSelf, remedy.AllowUser, remedy.AllowFormer, remedy.ConfirmName, remedy.PublishCard, remedy.MendCard:
		return hintUser(r)
	case remedy.ForgetBus:
		return "ask whoever runs the bus whether it was made anew; to accept the new one: unibus forget " + shellQuoted(r.Path)
	case remedy.ServersOfOne:
		return "name servers of one bus; if one was made anew: unibus forget " + shellQuoted(r.Path)
	case remedy.MakePrivate:
		return "if it is still yours alone: chmod 600 " + shellQuoted(r.Path)
	case remedy.ConfirmSubject:
		return fmt.Sprintf("if that is intended, say so once: unibus room show %s --yes", room)
	case remedy.LookAgain:
		return "it may have been made all the same: unibus room show " + room
	case remedy.ListMembers:
		return fmt.Sprintf("unibus members %s shows who is in it", room)
	case remedy.LetIn:
		return fmt.Sprintf("an owner or admin of the room can let you in: unibus invite %s %s", room, r.User)
	case remedy.LetWrite:
		return fmt.Sprintf("an owner can change that: unibus role %s %s member", room, r.User)
	case remedy.RenewKey:
		return "an owner or admin renews it: unibus rekey " + room
	case remedy.HandOutKey:
		return "an owner or admin hands out a new one: unibus rekey " + room
	case remedy.AskOwner:
		return hintOwners(r.Room)
	case remedy.NameOwner:
		return fmt.Sprintf("make another member an owner first: unibus role %[1]s USER owner; or end the room: unibus room archive %[1]s", room)
	case remedy.HandOutOrMend:
		return fmt.Sprintf("an owner or admin hands out a new key: unibus rekey %s; a damaged disk: unibus doctor", room)
	}
	return hintForOperator(r)
}

// hintUser is a remedy that is about a user.
func hintUser(r remedy.Remedy) string {
	switch r.Kind {
	case remedy.AllowSelf:
		return fmt.Sprintf("if the clock of this machine is right (date -u), ask an admin to run: unibus user add %s --name %s", r.Key, cmp.Or(r.User, "NAME"))
	case remedy.AskWhy:
		return fmt.Sprintf("if the clock of this machine is right (date -u), ask an admin, who sees why, and what lets you in again: unibus user show %s", r.User)
	case remedy.AllowAgain:
		return fmt.Sprintf("ask an admin to run: unibus user add %s --name %s", r.Key, r.User)
	case remedy.Extend:
		return fmt.Sprintf("an admin gives them more time, for ever or as with --expires 30d: unibus user set %s --expires never", r.User)
	case remedy.ExtendSelf:
		return fmt.Sprintf("ask an admin to run, for ever or as with --expires 30d: unibus user set %s --expires never", r.User)
	case remedy.AllowUser:
		return fmt.Sprintf("an admin allows it: unibus user add %s", r.Key)
	case remedy.AllowFormer:
		return fmt.Sprintf("an admin allows it again: unibus user add %s --name %s", r.Key, r.User)
	case remedy.ConfirmName:
		return fmt.Sprintf("if that is intended, say so once: unibus user show %s --yes", r.User)
	case remedy.PublishCard:
		return fmt.Sprintf("%s runs unibus join once, or gives an admin the card that unibus whoami --card prints; invite --wait 5m waits for it", r.User)
	}
	return r.User + " gives the bus a whole one with unibus join"
}

// hintHistory is a remedy that takes a log or a room for what it is.
func hintHistory(r remedy.Remedy) string {
	room := "--bus"
	if r.Room != "" {
		room = shellQuoted(r.Room)
	}
	switch r.Kind {
	case remedy.AcceptLoss:
		return fmt.Sprintf("%s; to take the room for lost: unibus verify %s --accept 0", hintAskRestored, r.RoomID)
	case remedy.AcceptLog:
		return fmt.Sprintf("%s; to accept it as it is now: unibus verify %s --accept %x", hintAskRestored, room, r.Hash[:8])
	case remedy.AcceptPlace:
		return fmt.Sprintf("ask whoever runs the bus what was lost or restored; if it was meant, an owner says so for everyone: unibus room set %s --anew; or you for yourself: unibus verify %s --accept %d", room, room, r.Place)
	}
	return fmt.Sprintf("compare with the others: unibus log %s; to go on with this one: unibus verify %s --accept %x", room, room, r.Hash[:8])
}
