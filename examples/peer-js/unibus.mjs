// What is signed, sealed and sent, after SPEC.md §2 to §6. Nothing here knows of NATS.
import crypto from 'node:crypto'
import { encode, decode } from 'cborg'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519 } from '@noble/curves/ed25519.js'
import { CipherSuite, HkdfSha256, Aes256Gcm } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'

export const hex = b => Buffer.from(b).toString('hex')
export const sha256 = b => crypto.createHash('sha256').update(b).digest()
export const random = n => crypto.randomBytes(n)
const cat = (...parts) => Buffer.concat(parts.map(p => typeof p === 'string' ? Buffer.from(p) : p))
const same = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0
const u32 = n => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b }
const u64 = n => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b }
const hkdf = (key, salt, info, n) => Buffer.from(crypto.hkdfSync('sha256', key, salt, info, n))
export function must (ok, why) { if (!ok) throw new Error(why) }

// ---- §2 keys and identities

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
function base32 (bytes) {
  let bits = 0; let n = 0; let out = ''
  for (const b of bytes) {
    n = (n << 8 | b) & 0xffff; bits += 8
    for (; bits >= 5; bits -= 5) out += ALPHABET[n >> (bits - 5) & 31]
  }
  return bits ? out + ALPHABET[n << (5 - bits) & 31] : out
}
function unbase32 (text) {
  let bits = 0; let n = 0; const out = []
  for (const c of text) {
    const v = ALPHABET.indexOf(c); must(v >= 0, 'not base32')
    n = (n << 5 | v) & 0xffff; bits += 5
    if (bits >= 8) { bits -= 8; out.push(n >> bits & 255) }
  }
  must(base32(out) === text, 'not base32')
  return Buffer.from(out)
}
function crc16 (bytes) { // XMODEM
  let crc = 0
  for (const b of bytes) {
    crc ^= b << 8
    for (let i = 0; i < 8; i++) crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff
  }
  return Buffer.from([crc & 255, crc >> 8])
}
function nkey (prefix, raw) { const b = cat(Buffer.from(prefix), raw); return base32(cat(b, crc16(b))) }
function unnkey (prefix, text) {
  const raw = unbase32(text.trim().toUpperCase())
  const body = raw.subarray(0, -2); const head = Buffer.from(prefix)
  must(body.length === head.length + 32 && same(body.subarray(0, head.length), head) && same(crc16(body), raw.subarray(-2)), 'not such a key')
  return body.subarray(head.length)
}
export const keyText = key => nkey([0xa0], key)
export const keyBytes = text => unnkey([0xa0], text)
export const seedText = seed => nkey([0x95, 0x00], seed)
export const seedBytes = text => unnkey([0x95, 0x00], text)
export const idText = id => base32(id).toLowerCase() // §3: ids and inboxes
export const idBytes = text => unbase32(text.toUpperCase())

const privateKey = seed => crypto.createPrivateKey({ key: cat(Buffer.from('302e020100300506032b657004220420', 'hex'), seed), format: 'der', type: 'pkcs8' })
const publicKey = raw => crypto.createPublicKey({ key: cat(Buffer.from('302a300506032b6570032100', 'hex'), raw), format: 'der', type: 'spki' })
const publicOf = seed => crypto.createPublicKey(privateKey(seed)).export({ format: 'der', type: 'spki' }).subarray(-32)
const sign = (seed, message) => crypto.sign(null, message, privateKey(seed))
// OpenSSL verifies without cofactor and with S < L, as §1 asks; keys are looked at by soundKey.
const verify = (key, message, signature) => soundKey(key) && crypto.verify(null, message, publicKey(key), signature)
const sound = new Map()
function soundKey (key) {
  const k = hex(key)
  if (!sound.has(k)) {
    let ok = false
    try { ok = !ed25519.Point.fromBytes(key, false).isSmallOrder() } catch {}
    sound.set(k, ok)
  }
  return sound.get(k)
}

const hpke = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() })

export class Identity {
  constructor (seed) {
    this.seed = seed
    this.key = publicOf(seed)
    this.self = keyText(this.key)
    this.connectionSeed = hkdf(seed, '', 'unibus/v1 connection key', 32)
    this.connection = publicOf(this.connectionSeed)
    this.sealing = hkdf(seed, '', 'unibus/v1 sealing key', 32)
  }

  nonce (text) { return sign(this.connectionSeed, Buffer.from(text)) }

  async card () {
    const pair = await hpke.kem.generateKeyPairDerand(this.sealing)
    const sealing = new Uint8Array(await hpke.kem.serializePublicKey(pair.publicKey))
    return this.statement('card', { v: 1, key: this.key, connection: this.connection, sealing })
  }

  token (use, { bus = Buffer.alloc(0), rooms = [], inbox, from = Date.now(), until = from + (use === 'api' ? 3600e3 : 300e3) }) {
    const t = { v: 1, key: this.key, connection: this.connection, use, bus, from, until }
    if (rooms.length) t.rooms = rooms
    if (inbox) t.inbox = inbox
    return this.statement('token', t).toString('base64url')
  }

  statement (kind, value) { // §3
    const payload = Buffer.from(encode(value))
    return cat(sign(this.seed, cat(Buffer.from([0xff, 0]), 'unibus/v1 ' + kind + '\0', payload)), payload)
  }

  async openRoomKey (sealed, room, epoch, commit) { // §5
    const info = cat('unibus/v1 room key\0', room, u32(epoch), commit, this.key)
    must(sealed.length === 1168, 'size of a sealed key')
    const recipientKey = await hpke.kem.importKey('raw', this.sealing, false)
    const context = await hpke.createRecipientContext({ recipientKey, enc: sealed.subarray(0, 1120), info })
    const key = Buffer.from(await context.open(sealed.subarray(1120)))
    must(key.length === 32 && same(commitment(key, epoch), commit), 'not the committed key')
    return key
  }
}

// ---- §5 room keys

export const commitment = (key, epoch) => crypto.createHmac('sha256', key).update(cat('unibus/v1 key commitment\0', u32(epoch))).digest()
// The key before that of epoch, from the entry that began epoch.
export function openPrevious (previous, key, room, epoch) {
  const k = hkdf(key, '', cat('unibus/v1 previous key\0', room, u32(epoch)), 32)
  return Buffer.from(xchacha20poly1305(k, previous.subarray(0, 24)).decrypt(previous.subarray(24)))
}

// ---- §3 statements

const isText = x => typeof x === 'string'
const isNumber = x => Number.isSafeInteger(x) && x >= 0
const anyBytes = x => x instanceof Uint8Array
const isBytes = n => x => x instanceof Uint8Array && x.length === n
const isKey = x => isBytes(32)(x) && soundKey(x)
const isBool = x => typeof x === 'boolean'
const oneOf = (...all) => x => all.includes(x)
const list = of => x => Array.isArray(x) && x.length > 0 && x.every(of)
function map (fields, optional = {}) { // exactly these fields, and perhaps those
  return x => x !== null && typeof x === 'object' && Object.getPrototypeOf(x) === Object.prototype &&
    Object.keys(fields).every(k => k in x) &&
    Object.keys(x).every(k => Object.hasOwn(fields, k) ? fields[k](x[k]) : Object.hasOwn(optional, k) && optional[k](x[k]))
}

export function openStatement (kind, bytes, shape, by = v => v.key) {
  const payload = Buffer.from(bytes.subarray(64))
  must(payload.length <= 900 << 10, 'too large')
  const value = decode(payload, { strict: true, rejectDuplicateMapKeys: true, allowUndefined: false })
  must(same(encode(value), payload), 'encoding') // core-deterministic, or not these bytes
  must(shape(value), 'fields')
  must(verify(by(value), cat(Buffer.from([0xff, 0]), 'unibus/v1 ' + kind + '\0', payload), bytes.subarray(0, 64)), 'signature')
  return { value, hash: sha256(payload) }
}
export const isCard = map({ v: oneOf(1), key: isKey, connection: isKey, sealing: isBytes(1216) })

// ---- §4 logs

const isEntry = map({
  v: oneOf(1), log: anyBytes, seq: isNumber, prev: anyBytes, time: isNumber, by: isKey, op: isText, body: x => typeof x === 'object'
})

class Log {
  states = [] // states[seq - 1] is what holds after that entry
  get head () { return this.states.at(-1) ?? { seq: 0, hash: Buffer.alloc(0) } }
  at (seq) { return this.states[seq - 1] }

  append (bytes) {
    const { value: e, hash } = openStatement('entry', bytes, isEntry, v => v.by)
    const { seq, hash: prev } = this.head
    must(e.seq === seq + 1, 'seq')
    must(same(e.prev, prev), 'prev')
    must(same(e.log, this.id ?? []), 'log')
    const shape = this.shapes[e.op]
    must(shape, 'unknown op ' + e.op)
    must(shape(e.body), 'fields of ' + e.op)
    must((seq === 0) === (e.op === this.first), 'first entry')
    const next = this.fold(this.head, e.op, e.body, e.by, e)
    this.id ??= hash.subarray(0, 20)
    this.states.push({ ...next, seq: e.seq, hash })
  }
}

const isName = x => isText(x) && /^[A-Za-z0-9._/-]{1,64}$/.test(x)
const isBusRole = oneOf('admin', 'user')

export class BusLog extends Log {
  first = 'found'
  shapes = {
    found: map({ name: isName, key: isKey }),
    add: map({ users: list(map({ key: isKey, name: isName, role: isBusRole }, { expires: isNumber })) }),
    revoke: map({ keys: list(isKey) }, { reason: isText }),
    role: map({ key: isKey, role: isBusRole })
  }

  fold (s, op, b, by) {
    if (op === 'found') {
      must(same(b.key, by), 'founded by another key')
      return { users: new Map([[hex(by), { name: b.name, role: 'admin' }]]) }
    }
    const users = new Map(s.users) // the active ones
    must(users.get(hex(by))?.role === 'admin', 'not an admin')
    if (op === 'add') {
      for (const { key, ...u } of b.users) {
        must(!users.has(hex(key)), 'key already active')
        must(![...users.values()].some(o => o.name === u.name), 'name already active')
        users.set(hex(key), u)
      }
    } else {
      for (const k of op === 'revoke' ? b.keys : [b.key]) {
        const u = users.get(hex(k)); must(u, 'not active')
        if (op === 'revoke') users.delete(hex(k)); else users.set(hex(k), { ...u, role: b.role })
      }
    }
    must([...users.values()].some(u => u.role === 'admin'), 'last admin')
    return { users }
  }

  // Whether a key may use the bus now. Expiry is no part of the fold, which knows no time.
  active (key) { const u = this.head.users.get(hex(key)); return !!u && (u.expires ?? Infinity) > Date.now() }
}

const isRole = oneOf('owner', 'admin', 'member', 'reader')
const isSubject = x => isText(x) && x.length <= 200 && !x.startsWith('$') && x.split('.').every(t => /^[!-)+-=?-~]+$/.test(t))
const isPolicy = map({
  encryption: oneOf('e2e', 'none'), history: oneOf('joined', 'shared'), pad: isBool,
  rekey_after: map({ age: isNumber, messages: isNumber })
}, { retain: map({ age: isNumber, bytes: isNumber }) })
const isRekey = map({ epoch: isNumber, commit: isBytes(32) }, { previous: isBytes(72) })

export class RoomLog extends Log {
  first = 'create'
  shapes = {
    create: map({ bus: isBytes(20), subject: isSubject, policy: isPolicy, nonce: isBytes(16) }, { commit: isBytes(32) }),
    invite: map({ members: list(map({ key: isKey, role: isRole })) }, { rekey: isRekey }),
    remove: map({ keys: list(isKey) }, { rekey: isRekey }),
    leave: map({}),
    role: map({ key: isKey, role: isRole }),
    rekey: isRekey,
    policy: map({ policy: isPolicy }, { rekey: isRekey, anew: oneOf(true) }),
    archive: map({})
  }

  keys = [] // keys[epoch] = {commit, previous?}
  joined = new Map() // who is or was a member => the entry that first made it one
  anew = { seq: 0, time: 0 } // the last entry that says that the room began anew

  fold (s, op, b, by, e) {
    if (op === 'create') {
      must((b.policy.encryption === 'e2e') === !!b.commit, 'commit')
      this.keys[1] = { commit: b.commit }
      this.joined.set(hex(by), 1)
      return { bus: b.bus, subject: b.subject, policy: b.policy, epoch: 1, since: e.time, members: new Map([[hex(by), 'owner']]) }
    }
    must(!s.archived, 'archived')
    const next = { ...s, members: new Map(s.members) }
    const mine = s.members.get(hex(by))
    const junior = r => r === 'member' || r === 'reader'
    const may = ok => must(ok, 'not allowed')
    may(mine)
    let rekeys = false // whether this entry has to renew the key
    if (op === 'invite') {
      for (const m of b.members) {
        may(mine === 'owner' || (mine === 'admin' && junior(m.role)))
        must(!next.members.has(hex(m.key)), 'already a member')
        next.members.set(hex(m.key), m.role)
        if (!this.joined.has(hex(m.key))) this.joined.set(hex(m.key), e.seq)
      }
      rekeys = s.policy.history === 'joined'
    } else if (op === 'remove') {
      for (const k of b.keys) {
        const r = next.members.get(hex(k)); must(r, 'not a member')
        may(mine === 'owner' || (mine === 'admin' && junior(r)))
        next.members.delete(hex(k))
      }
      rekeys = true
    } else if (op === 'leave') {
      next.members.delete(hex(by))
    } else if (op === 'role') {
      may(mine === 'owner'); must(next.members.has(hex(b.key)), 'not a member')
      next.members.set(hex(b.key), b.role)
    } else if (op === 'rekey') {
      may(mine === 'owner' || mine === 'admin')
    } else if (op === 'policy') {
      may(mine === 'owner'); must(b.policy.encryption === s.policy.encryption, 'encryption changed')
      next.policy = b.policy
      if (b.anew) this.anew = { seq: e.seq, time: e.time }
      rekeys = b.policy.history !== s.policy.history
    } else {
      may(mine === 'owner'); next.archived = true
    }
    must([...next.members.values()].includes('owner'), 'last owner')
    must(next.members.size <= 10000, 'too many members')
    const rekey = op === 'rekey' ? b : b.rekey
    if (s.policy.encryption === 'none') must(!rekey, 'nothing to rekey')
    else must(rekey || !rekeys, 'must rekey')
    if (rekey) {
      must(rekey.epoch === s.epoch + 1, 'epoch')
      must(!!rekey.previous === (s.policy.history === 'shared' && next.policy.history === 'shared'), 'previous')
      this.keys[rekey.epoch] = rekey
      Object.assign(next, { epoch: rekey.epoch, since: e.time })
    }
    return next
  }

  // Whether someone has a right to an epoch's key: a member then, or of a later epoch from which shared history leads back.
  owes (key, epoch) {
    let last = epoch
    while (this.keys[last + 1]?.previous) last++
    return this.states.some(s => s.epoch >= epoch && s.epoch <= last && s.members.has(hex(key)))
  }

  // Whether what was sent at an entry may be gone because the room stored nothing since, or began anew.
  unstored (at) { return this.anew.seq > at || this.states.slice(at - 1).some(s => !s.policy.retain) }
}

// ---- §6 frames

const LARGEST = 64 << 20
const writes = role => role === 'owner' || role === 'admin' || role === 'member'
const frameKey = (key, room, epoch) => hkdf(key, '', cat('unibus/v1 frame key\0', room, u32(epoch)), 32)

function uvarint (n) {
  const out = []
  for (; n >= 128; n = Math.floor(n / 128)) out.push(n % 128 | 128)
  return Buffer.from([...out, n])
}
class Cursor {
  constructor (bytes) { this.bytes = bytes; this.i = 0 }
  get rest () { return this.bytes.length - this.i }
  take (n) { must(n <= this.rest, 'content'); this.i += n; return this.bytes.subarray(this.i - n, this.i) }
  uvarint () {
    let n = 0; let scale = 1; let b
    do {
      b = this.take(1)[0]; n += (b & 127) * scale; scale *= 128
      must(n <= Number.MAX_SAFE_INTEGER && (b !== 0 || scale === 128), 'content') // as short as can be
    } while (b & 128)
    return n
  }
}
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function encodeRecord ({ headers = [], body }) {
  const text = s => { const b = Buffer.from(s); return [uvarint(b.length), b] }
  return cat(uvarint(headers.length), ...headers.flatMap(([k, v]) => [...text(k), ...text(v)]), body)
}
function decodeRecord (bytes) {
  const c = new Cursor(bytes); const headers = []
  for (let n = c.uvarint(); n > 0; n--) headers.push([utf8.decode(c.take(c.uvarint())), utf8.decode(c.take(c.uvarint()))])
  return { headers, body: c.take(c.rest) }
}
function padme (n) {
  const e = Math.floor(Math.log2(n)); const unit = 2 ** (e - Math.floor(Math.log2(e)) - 1)
  return Math.ceil(n / unit) * unit
}
export function encodeContent (time, records, pad) {
  const parts = records.map(encodeRecord).flatMap(r => [uvarint(r.length), r])
  const content = cat(u64(time), ...parts)
  return pad ? cat(content, Buffer.alloc(padme(content.length) - content.length)) : content
}
function decodeContent (content, tells) {
  const c = new Cursor(content); const number = () => Number(c.take(8).readBigUInt64BE())
  const time = number(); const follows = []; const records = []
  if (tells) {
    const n = c.take(1)[0]
    must(n <= 16, 'content')
    for (let i = 0; i < n; i++) follows.push({ stream: hex(c.take(16)), frames: number(), at: number(), place: number(), sealed: number() })
  }
  while (c.rest) {
    const n = c.uvarint()
    if (n === 0) { must(c.take(c.rest).every(b => b === 0), 'content'); break }
    records.push(decodeRecord(c.take(n)))
  }
  return { time, follows, records }
}

// f: {identity, room, key, epoch, at, hash, stream, counter, more, final, content}; key is absent in a plain room.
export function sealFrame (f, salt = random(32)) {
  const head = cat(
    'ub1', Buffer.from([f.key ? 1 : 0, (f.more ? 1 : 0) | (f.final ? 2 : 0), 0, 0, 0]),
    u32(f.epoch), u64(f.at), f.hash.subarray(0, 16), f.stream, u64(f.counter)
  )
  const digest = sha256(f.content)
  const key = f.key && frameKey(f.key, f.room, f.epoch)
  const nonce = key ? hkdf(key, salt, cat('unibus/v1 nonce\0', head, digest), 24) : Buffer.alloc(24)
  const header = cat(head, nonce)
  const about = cat('unibus/v1 frame\0', f.room, f.identity.key, header)
  const inner = cat(sign(f.identity.seed, cat(Buffer.from([0xff, 0]), about, digest)), f.content)
  return cat(header, key ? xchacha20poly1305(key, nonce, about).encrypt(inner) : inner)
}

// room: {log: RoomLog, key: async epoch => bytes, busActive: key => bool}. Throws what is not accepted, with a kind and what
// the header says: forged is what is not authentic; what is refused takes its counter all the same.
const refusal = (kind, why, h) => Object.assign(new Error(why), { kind, h })
export async function openFrame (room, sender, frame, live) {
  const { log } = room; let h = {}
  const check = kind => (ok, why) => { if (!ok) throw refusal(kind, why, h) }
  const authentic = check('forged'); const allowed = check('refused')
  authentic(frame.length >= 84 + 64 + 8 && frame.length <= 1 << 20, 'header')
  authentic(frame.subarray(0, 3).toString() === 'ub1' && frame[3] < 2 && frame[4] < 8 && frame.readUIntBE(5, 3) === 0, 'header')
  const header = frame.subarray(0, 84); const nonce = frame.subarray(60, 84)
  h = {
    suite: frame[3], more: !!(frame[4] & 1), final: !!(frame[4] & 2), tells: !!(frame[4] & 4), epoch: frame.readUInt32BE(8),
    at: Number(frame.readBigUInt64BE(12)), hash: frame.subarray(20, 36), stream: hex(frame.subarray(36, 52)),
    counter: Number(frame.readBigUInt64BE(52))
  }
  authentic(!h.tells || h.counter === 0, 'header')
  authentic(h.suite === 1 || nonce.every(b => b === 0), 'header')
  authentic(h.suite === (log.head.policy.encryption === 'e2e' ? 1 : 0), 'suite') // encryption never changes
  authentic(log.joined.has(hex(sender)), 'never a member')
  const about = cat('unibus/v1 frame\0', log.id, sender, header)
  let inner = frame.subarray(84)
  if (h.suite === 1) {
    authentic(log.keys[h.epoch], 'no such epoch')
    const given = await room.key(h.epoch).catch(e => { throw refusal(e.notGiven ? 'unreadable' : 'key withheld', e.message, h) })
    const key = frameKey(given, log.id, h.epoch)
    try { inner = Buffer.from(xchacha20poly1305(key, nonce, about).decrypt(inner)) } catch { authentic(false, 'does not open') }
  }
  authentic(inner.length >= 72, 'content')
  const content = inner.subarray(64)
  authentic(verify(sender, cat(Buffer.from([0xff, 0]), about, sha256(content)), inner.subarray(0, 64)), 'signature')
  h.time = Number(content.readBigUInt64BE())
  const state = log.at(h.at); const now = log.head.members.get(hex(sender))
  const fits = state && same(state.hash.subarray(0, 16), h.hash)
  check('left over')(fits || h.time >= log.anew.time * 1000, 'of before the room began anew')
  allowed(state, 'at an entry that is withheld')
  check('fork')(fits, now === 'owner' || now === 'admin' ? 'fork, proven' : 'fork, claimed')
  allowed(writes(state.members.get(hex(sender))), 'not a writer')
  allowed(!live || (writes(now) && room.busActive(sender)), 'not a writer any more')
  allowed(h.epoch === state.epoch, 'epoch')
  allowed(!state.archived, 'archived')
  allowed(!h.tells || state.policy.retain, 'follows where nothing is stored')
  let parsed
  try { parsed = decodeContent(content, h.tells) } catch (e) { allowed(false, e.message) }
  return { ...h, ...parsed, former: !writes(now) }
}

// §6 streams: frames of one sender and stream in the order of their counters, long messages put together again, and what
// is missing. room as for openFrame, and self: who reads. emit({sender, stream, counter, headers, body, time, former});
// note({kind, finding, sender, stream, from, to, why}), counters from and to, or places where there is no sender.
export class Streams {
  all = new Map()
  gaps = [] // behind which reading went on, to be judged at the end of the past
  total = 0 // bytes read, and in marks how many of them before some of the places
  marks = []
  named = 0 // the last entry that a frame named

  // from: the place at which reading begins, in a stored room.
  constructor (room, emit, note, { from = Infinity, now = Date.now } = {}) {
    Object.assign(this, { room, log: room.log, emit, note, from, now, stored: !!room.log.head.policy.retain })
  }

  // What the server says is the room's first place.
  reaches (first) { this.first = first; this.front ??= first }
  get fromStart () { return this.from <= this.front }
  get waiting () { return [...this.all.values()].some(s => s.held.size) }

  async take (sender, frame, { live = false, place = 0, stored = Infinity } = {}) {
    // A mark for each 128th of what the room keeps is near enough for *expired*.
    const step = (this.log.head.policy.retain?.bytes || Infinity) / 128
    if (!this.marks.length || this.total - this.marks.at(-1).before >= step) this.marks.push({ place, before: this.total })
    this.total += frame.length + 256
    let f
    try {
      f = await openFrame(this.room, sender, frame, live)
      if (!this.stored && Math.abs(f.time / 1000 - this.now()) > 600e3) throw refusal('refused', 'sealed more than 10 minutes from now', f)
    } catch (e) {
      const { kind, h } = e
      if (!h || kind === 'fork') throw e
      const old = stored / 1000 < this.log.anew.time && this.named < this.log.anew.seq // left over, too
      const finding = kind === 'refused' || kind === 'key withheld' ||
        (kind === 'forged' && this.stored && this.log.joined.has(hex(sender)) && !old)
      this.note({ kind, finding, sender, stream: h.stream, from: h.counter, to: h.counter, why: e.message })
      if (kind !== 'refused') return
      f = { ...h, refused: true }
    }
    if (!f.refused) this.named = Math.max(this.named, f.at)
    const s = this.stream(sender, f.stream)
    s.next ??= f.counter
    const digest = hex(sha256(frame))
    const was = s.seen.get(f.counter) ?? s.held.get(f.counter)?.digest
    if (was) { if (was !== digest) this.tell(s, 'replayed', true, f.counter, f.counter); return }
    if (f.counter < s.next) {
      s.seen.set(f.counter, digest)
      return this.tell(s, 'dropped', false, f.counter, f.counter, 'behind it others were delivered')
    }
    const came = this.now()
    s.held.set(f.counter, { f, digest, place, until: this.stored ? Math.min(came, f.time / 1000) + 35e3 : came + 2e3 })
    this.deliver(s)
    if (s.held.size > 64) this.goOn(s)
  }

  stream (sender, stream) {
    const id = hex(sender) + stream
    let s = this.all.get(id)
    if (!s) {
      if (this.all.size >= 65536) {
        let gone = this.all.values().next().value
        for (const o of this.all.values()) if (o.ended) { gone = o; break }
        if (gone.held.size) this.tell(gone, 'dropped', false, gone.next, Math.max(...gone.held.keys()), 'too many streams')
        this.all.delete(gone.id)
      }
      this.all.set(id, s = { id, sender, stream, next: this.fromStart ? 0 : undefined, seen: new Map(), held: new Map() })
    }
    return s
  }

  tell (s, kind, finding, from, to, why) { this.note({ kind, finding, sender: s.sender, stream: s.stream, from, to, why }) }

  goOn (s) { // behind the gap
    const to = Math.min(...s.held.keys()) - 1
    if (s.partial) this.lose(s, to, true) // its rest, the next frame's first record, is no message
    if (this.stored) this.gaps.push({ s, from: s.next, to, before: s.last, after: s.held.get(to + 1) })
    else this.tell(s, 'gap', false, s.next, to)
    s.next = to + 1
    this.deliver(s)
  }

  lose (s, to, more) {
    if (s.partial && !s.partial.lost) this.tell(s, 'dropped', false, s.partial.counter, to, 'not whole')
    s.partial = more ? { lost: true } : undefined
  }

  deliver (s) {
    for (let h; (h = s.held.get(s.next)); s.next++) {
      const { f, digest, place } = h
      s.held.delete(s.next); s.seen.set(s.next, digest)
      if (s.ended) { this.tell(s, 'replayed', true, f.counter, f.counter, 'after final'); continue }
      const back = s.last && (f.at < s.last.at || f.time < s.last.time)
      if (back && !f.refused) this.tell(s, 'replayed', true, f.counter, f.counter, 'at or time going back')
      if (back || f.refused) { this.lose(s, f.counter, f.more); continue }
      s.last = { at: f.at, epoch: f.epoch, time: f.time, place }
      s.ended = f.final
      for (const t of f.follows) {
        const of = this.stream(s.sender, t.stream); const was = of.told
        if (!(was?.frames > t.frames)) of.told = { ...t, by: place, said: was?.frames === t.frames && was.said }
      }
      f.records.forEach((r, i) => {
        const p = i === 0 && s.partial ? s.partial : { counter: f.counter, headers: r.headers, parts: [], size: 0 }
        s.partial = undefined
        if (!p.lost && (p.size += r.body.length) > LARGEST) {
          this.tell(s, 'dropped', true, p.counter, f.counter, 'a message of more than 64 MiB')
          Object.assign(p, { lost: true, parts: [] })
        }
        if (!p.lost) p.parts.push(r.body)
        if (f.more && i === f.records.length - 1) s.partial = p // it goes on in the next frame
        else if (!p.lost) {
          const { counter, headers } = p; const { time, former } = f
          this.emit({ sender: keyText(s.sender), stream: s.stream, counter, headers, body: cat(...p.parts), time, former })
        }
      })
    }
  }

  // To be called now and then; of a stored room when its past has been read to its end. Goes on behind gaps that nothing
  // will fill any more, and judges what is missing.
  judge () {
    for (const s of this.all.values()) {
      while (s.held.size && s.held.get(Math.min(...s.held.keys())).until <= this.now()) this.goOn(s)
    }
    if (!this.stored) return
    const begin = { at: 1, place: 0, time: this.log.at(1).since * 1000 }
    if (this.fromStart && this.front > 1 && !this.judged && !this.log.unstored(1) && !this.expired(begin)) {
      this.note({ kind: 'lost', finding: true, from: 1, to: this.front - 1 })
    }
    this.judged = true
    for (const g of this.gaps.splice(0)) this.judgeGap(g)
    for (const s of this.all.values()) {
      const last = s.told?.frames - 1
      if (!(last >= 0) || s.seen.has(last) || (s.held.size && last >= s.next)) continue // read, or may still come
      if (this.due(s.told)) this.missing(s, last >= s.next ? s.next : last)
    }
  }

  judgeGap (gap) {
    const { s, from, to, before, after } = gap
    const told = s.told; const frames = told?.frames
    if (from < frames && frames <= to) {
      this.judgeGap({ ...gap, to: frames - 1 }); this.judgeGap({ ...gap, from: frames })
      return
    }
    if (to === frames - 1 && this.due(told)) return this.missing(s, from)
    const member = this.log.joined.get(hex(s.sender)) // stands for a frame before the gap
    const b = before ?? { at: member, epoch: 0, place: 0, time: this.log.at(member).since * 1000 }
    let unreadable = false
    for (let e = b.epoch + 1; e < Math.min(after.f.epoch, this.log.head.epoch); e++) unreadable ||= !this.log.owes(this.room.self, e)
    const excuse = unreadable ? 'unreadable'
      : this.log.unstored(b.at) ? 'unstored'
        : this.expired(b) ? 'expired'
          : from >= frames && after.place < told.by ? 'unacknowledged' : undefined
    this.tell(s, excuse ?? 'gap', !excuse, from, to)
  }

  // Whether what a writer tells of has to have been read.
  due (told) {
    const state = this.log.at(told.at)
    return (this.fromStart || this.from <= told.place) && state && this.log.owes(this.room.self, state.epoch) &&
      !this.log.unstored(told.at) && told.sealed >= this.log.anew.time * 1000
  }

  missing (s, from) {
    const { frames, at, place, sealed, said } = s.told
    if (said) return // once is enough
    s.told.said = true
    const expired = this.expired({ at, place, time: sealed })
    this.tell(s, expired ? 'expired' : 'missing', !expired, from, frames - 1)
  }

  // Whether what was sent behind a frame may have expired.
  expired ({ at, place, time }) {
    if (this.first < place - 64) return false
    const least = limit => this.log.states.slice(at - 1).reduce((n, s) => Math.min(n, s.policy.retain?.[limit] || Infinity), Infinity)
    if (this.now() * 1000 - time > (least('age') - 600) * 1e6) return true
    const bytes = least('bytes')
    const stricter = (this.log.at(at).policy.retain?.bytes || Infinity) > bytes // frames of before may be larger than half of it
    const enough = Math.min(bytes / 2, stricter ? bytes - (1 << 20) - 1024 : Infinity)
    const read = from => { const m = this.marks.find(m => m.place >= from); return m ? this.total - m.before : 0 }
    return Math.max(read(place), read(this.first)) >= enough
  }
}

// The records of a frame: messages as they are, the pieces of one that is larger than a frame.
export const frames = function * (messages, size) {
  let batch = []; let used = 0
  for (const m of messages) {
    const n = encodeRecord(m).length + 8
    if (n <= size) {
      if (used + n > size && batch.length) { yield { records: batch }; batch = []; used = 0 }
      batch.push(m); used += n
      continue
    }
    if (batch.length) { yield { records: batch }; batch = []; used = 0 }
    const first = size - (n - m.body.length) // beside the headers
    must(first > 0, 'headers too large')
    for (let i = 0; i < m.body.length;) {
      const piece = m.body.subarray(i, i + (i ? size - 16 : first))
      i += piece.length
      yield { records: [{ headers: i === piece.length ? m.headers : [], body: piece }], more: i < m.body.length }
    }
  }
  if (batch.length) yield { records: batch }
}
