// Checks unibus.mjs against ../../testdata, the vectors of SPEC.md.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import * as u from './unibus.mjs'

const load = name => JSON.parse(readFileSync(new URL('../../testdata/' + name, import.meta.url)))
const bytes = h => Buffer.from(h, 'hex')
let bad = 0; let n = 0
async function check (what, want, f) {
  n++
  let got
  try { got = await f() } catch (e) { got = e }
  if (want !== !(got instanceof Error || got === false)) { bad++; console.error('WRONG', what, got) }
  if (process.argv.includes('-v') && !want) console.log(what, '=>', got)
}

const v = load('v1.json'); const t = load('tokens.json'); const r = load('reading.json')
for (const i of v.identities) {
  await check('identity ' + i.name, true, async () => {
    const id = new u.Identity(bytes(i.seed))
    return u.seedText(id.seed) === i.nkey_seed && id.self === i.key && u.keyText(id.connection) === i.connection_key &&
      u.hex(await id.card()) === i.card
  })
}
for (const c of v.cards) {
  await check('card ' + c.why, c.ok, () => u.keyText(u.openStatement('card', bytes(c.card), u.isCard).value.key) === c.of)
}
for (const c of v.commitments) await check('commitment', true, () => u.hex(u.commitment(bytes(c.key), c.epoch)) === c.commit)
for (const s of v.sealed) {
  const id = new u.Identity(bytes(v.identities.find(i => i.key === s.member).seed))
  await check('sealed ' + s.why, s.ok, async () =>
    u.hex(await id.openRoomKey(bytes(s.sealed), u.idBytes(s.room), s.epoch, bytes(s.commit))) === s.key)
}
for (const p of v.previous) {
  await check('previous', true, () => u.hex(u.openPrevious(bytes(p.previous), bytes(p.key), u.idBytes(p.room), p.epoch)) === p.previous_key)
}
const fold = (log, entries) => { for (const e of entries) log.append(bytes(e)); return log }
for (const l of v.bus_logs) {
  await check('bus log: ' + l.name, l.ok, () => {
    const log = fold(new u.BusLog(), l.entries); const { hash, users } = log.head
    return u.idText(log.id) === l.id && u.hex(hash) === l.head && users.size === l.users.filter(x => x.active).length &&
      l.users.every(x => !x.active || users.get(u.hex(u.keyBytes(x.key))).role === x.role)
  })
}
for (const l of v.room_logs) {
  await check('room log: ' + l.name, l.ok, () => {
    const log = fold(new u.RoomLog(), l.entries); const { epoch, members, subject } = log.head
    return u.idText(log.id) === l.id && epoch === l.epoch && subject === l.subject && members.size === l.members.length &&
      l.members.every(m => members.get(u.hex(u.keyBytes(m.key))) === m.role)
  })
}
const keys = Object.fromEntries(v.commitments.map(c => [c.epoch, bytes(c.key)]))
for (const f of v.frames) {
  const log = fold(new u.RoomLog(), v.room_logs.find(l => l.name === f.room_log).entries)
  const sender = u.keyBytes(f.sender)
  await check('frame: ' + f.name, f.ok, async () => {
    const got = await u.openFrame({ log, key: async e => keys[e], busActive: () => true }, sender, bytes(f.frame), f.live)
    const same = got.counter === f.counter && got.time === f.time && got.former === f.former && got.at === f.at &&
      JSON.stringify(got.records.map(r => ({ headers: r.headers, body: u.hex(r.body) }))) === JSON.stringify(f.records)
    if (f.name === 'padded' || !same) return same // its padding is not of the Padmé size
    const identity = new u.Identity(bytes(v.identities.find(i => i.key === f.sender).seed))
    return u.hex(u.sealFrame({
      identity, room: log.id, key: keys[f.epoch], epoch: f.epoch, at: f.at, hash: log.at(f.at).hash, stream: bytes(f.made_with.stream),
      counter: f.counter, more: got.more, final: got.final, content: u.encodeContent(f.time, got.records, false)
    }, bytes(f.made_with.fresh))) === f.frame
  })
}
// What a reader says of sequences of frames. The order of its notices is left to it.
const sorted = notices => notices.map(n => JSON.stringify([n.kind, n.finding, n.sender, n.stream, n.from, n.to])).sort()
for (const c of r.cases) {
  const room = r.rooms.find(o => o.name === c.room); const log = fold(new u.RoomLog(), room.entries)
  const name = key => Object.keys(r.names).find(n => r.names[n] === key)
  const messages = []; const notices = []
  const reader = { log, key: async e => bytes(room.keys[e - 1]), busActive: () => true, self: u.keyBytes(r.names[c.reader]) }
  const streams = new u.Streams(reader,
    ({ sender, stream, counter, body }) => messages.push({ sender: name(sender), stream, counter, body: body.toString() }),
    n => notices.push({ ...n, sender: n.sender ? name(u.keyText(n.sender)) : '', stream: n.stream ?? '0'.repeat(32) }),
    { from: c.from, now: () => c.now })
  await check('reading: ' + c.name, true, async () => {
    streams.reaches(c.first)
    for (const f of c.frames) await streams.take(u.keyBytes(r.names[f.sender]), bytes(f.frame), { place: f.place })
    streams.judge()
    assert.deepEqual(messages, c.messages ?? [])
    assert.deepEqual(sorted(notices), sorted(c.notices ?? []))
  })
}
const alice = new u.Identity(bytes(t.seed))
await check('nonce', true, () => alice.nonce(t.nonce.nonce).toString('base64url') === t.nonce.url)
for (const k of t.tokens) {
  await check('token: ' + k.name, true, () => alice.token(k.use, {
    bus: u.idBytes(k.bus), rooms: k.rooms.map(u.idBytes), inbox: k.inbox ? bytes(k.inbox) : undefined, from: k.from, until: k.until
  }) === k.token)
}
console.log(bad ? `${bad} of ${n} vectors are wrong` : `${n} vectors agree`)
process.exit(bad ? 1 : 0)
