#!/usr/bin/env bash
# The whole story of this peer beside the unibus program, in a temporary folder. Exits 0 when every step holds.
set -euo pipefail
cd "$(dirname "$0")"
HERE=$PWD
T=$(mktemp -d)
pids=()
done_() {
  code=$?
  kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$T"
  if [ $code = 0 ]; then echo "peer-js: the story passes"; else echo "peer-js: FAILED at: $step"; code=1; fi
  exit $code
}
step=start
trap done_ EXIT
trap 'exit 1' INT TERM
step () { step=$1; echo "-- $1"; }
port () { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'; }
until_ () { for _ in $(seq 300); do "$@" && return 0; sleep 0.1; done; echo "waited in vain for: $*" >&2; return 1; }
peer () { node "$HERE/peer.mjs" "$@"; }
refused () { ! "$@"; }
finish () { # PID: wait at most 40 s for it, and take its exit code
  timeout 40 tail --pid="$1" -f /dev/null || { kill "$1"; echo "did not end" >&2; return 1; }
  wait "$1"
}

step "install and build"
npm ci --no-audit --no-fund --silent 2>"$T/npm" || { cat "$T/npm" >&2; exit 1; }
(cd ../.. && go build -o "$T/unibus" ./cmd/unibus)
PATH=$T:$PATH

step "the vectors of SPEC.md"
node vectors.mjs

step "a bus"
export NO_COLOR=1 XDG_CONFIG_HOME=$T/config XDG_DATA_HOME=$T/data XDG_STATE_HOME=$T/state UNIBUS_PEER=$T/peer
unset UNIBUS_IDENTITY UNIBUS_SERVER UNIBUS_STATE UNIBUS_STORE UNIBUS_CONTEXT UNIBUS_BUS
mkdir "$UNIBUS_PEER"
NATS=127.0.0.1:$(port) HTTP=127.0.0.1:$(port)
export NATS_URL=nats://$NATS
serve () {
  : > "$T/ready"
  unibus serve --listen "$NATS" --http "$HTTP" > "$T/ready" 2>> "$T/serve.log" &
  server=$!; pids+=($server)
  until_ grep -q ready "$T/ready"
}
unibus init --name admin 2>/dev/null
serve
BUS=$(sed 's/.*#//' "$T/ready")

step "an identity, hello, and an admin who lets it in"
KEY=$(peer init)
[ "$(peer hello)" = "$BUS" ]
refused peer room none 2>/dev/null # not on the allowlist yet
unibus user add "$KEY" --name jay
# A message of four frames, many in one frame, and a key that was renewed before the peer comes.
head -c 3500000 /dev/urandom > "$T/big"
ROOM=$(unibus room create js.stored)
seq 1 300 | unibus pub js.stored
unibus pub js.stored --whole < "$T/big"
unibus rekey js.stored
seq 301 600 | unibus pub js.stored
unibus room create js.live --retain none
unibus invite js.stored jay
unibus invite js.live jay
(seq 1 300; cat "$T/big"; echo; seq 301 600) > "$T/want"

step "the logs and the room key"
peer room js.stored | tee "$T/room"
grep -qx "room $ROOM" "$T/room"
grep -qx "epoch 2" "$T/room"

step "the past of a stored room"
peer read js.stored > "$T/got"
cmp "$T/want" "$T/got"

step "the past over HTTP"
TOKEN=$(peer token)
: > "$T/past"
for ((after = 0, last = 1; after < last;)); do
  curl -sf -D "$T/head" -H "Authorization: Bearer $TOKEN" "http://$HTTP/rooms/$ROOM/frames?after=$after" -o "$T/page"
  cat "$T/page" >> "$T/past"
  last=$(tr -d '\r' < "$T/head" | awk 'tolower($1) == "last:" {print $2}')
  after=$(peer open js.stored "$T/page" 2>&1 >/dev/null | sed -n 's/.*up to place //p')
done
peer open js.stored "$T/past" 2>/dev/null | cmp "$T/want" -

follow () { # ROOM N: a reader of either kind, from now on
  peer follow "$1" "$2" > "$T/peer.out" 2> "$T/peer.err" & reader=$!; pids+=($reader)
  unibus sub "$1" --count "$2" > "$T/sub.out" 2> "$T/sub.err" & sub=$!; pids+=($sub)
  until_ grep -q following "$T/peer.err"
  until_ grep -q reading "$T/sub.err"
  sleep 1
}
head -c 2500000 /dev/urandom > "$T/big2"

step "following and publishing, each frame sent again under its Nats-Msg-Id"
follow js.stored 5
echo "from unibus" | unibus pub js.stored
printf 'from the peer\nand again\n' | peer pub js.stored --twice 2> "$T/twice"
grep -q duplicate "$T/twice"
peer pub js.stored --whole < "$T/big2"
echo "the end" | unibus pub js.stored
(printf 'from unibus\nfrom the peer\nand again\n'; cat "$T/big2"; echo; echo "the end") > "$T/want2"
finish $reader; finish $sub
cmp "$T/want2" "$T/peer.out"; cmp "$T/want2" "$T/sub.out"
cat "$T/want2" >> "$T/want"
unibus sub js.stored --all --end 2>/dev/null | cmp "$T/want" -

step "following over a restart of the server"
peer follow js.stored 2 > "$T/peer.out" 2> "$T/peer.err" & reader=$!; pids+=($reader)
until_ grep -q following "$T/peer.err"
kill $server; wait $server || true
serve
printf 'one\ntwo\n' | unibus pub js.stored
finish $reader
printf 'one\ntwo\n' | cmp - "$T/peer.out"

step "a live room"
follow js.live 4
echo "from unibus" | unibus pub js.live
unibus pub js.live --whole < "$T/big"
echo "from the peer" | peer pub js.live
peer pub js.live --whole < "$T/big2"
finish $reader; finish $sub
(echo "from unibus"; cat "$T/big"; echo; echo "from the peer"; cat "$T/big2"; echo) > "$T/want2"
cmp "$T/want2" "$T/peer.out"; cmp "$T/want2" "$T/sub.out"

step "the end: removed from the room"
unibus kick js.stored jay
refused peer read js.stored > "$T/got" 2> "$T/err"
grep -q "not in a room" "$T/err"
