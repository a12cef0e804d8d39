#!/bin/sh
# Makes a bus what two files say, and changes nothing when it is run again:
#   team.sh TEAM ROOMS
# TEAM has who may connect, a KEY or a CARD and a NAME a line: what `unibus whoami --card` prints lets people be
# invited before they have ever connected. ROOMS has a room and who is to be in it a line: SUBJECT NAME…
set -eu
team=$1 rooms=$2

unibus user sync --file "$team" --prune --yes --quiet

while read -r room members; do
	case $room in '' | '#'*) continue ;; esac
	unibus room show "$room" --quiet >/dev/null 2>&1 || unibus room create "$room" --quiet >/dev/null
	# shellcheck disable=SC2086 # names have no spaces
	unibus invite "$room" $members --skip-existing --quiet
done <"$rooms"

unibus rekey --stale --quiet # without whoever was in a room and may connect no more
