package service

// What an operator can do about what the log of a service tells. These texts name commands and flags of unibus, which no
// error does: what helps with an error the command line adds, but between a line of the log and who reads it stands nobody.
// They are all here, so that a command that is renamed is renamed in them.
const (
	doctorTells   = "unibus doctor tells which rooms need it"
	doctorRepairs = "unibus doctor --repair writes it anew"
	doctorForgets = "unibus doctor --repair writes anew from the log" // and with it who was revoked
	flagsForTLS   = "--tls-cert and --tls-key change that"
	moreFiles     = "(ulimit -n)"
)

// takeAsItIs is about a bus log that lost its end, of which more is noted in a file.
func takeAsItIs(noted string) string {
	return "restore the servers' data; or, to take what is there for all there is, remove " + noted + " and have unibus doctor --repair write the lists anew"
}
