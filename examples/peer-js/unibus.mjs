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
    policy: map({ policy: isPolicy }, { rekey: isRekey }),
    archive: map({})
  }

  keys = [] // keys[epoch] = {commit, previous?}

  fold (s, op, b, by, e) {
    if (op === 'create') {
      must((b.policy.encryption === 'e2e') === !!b.commit, 'commit')
      this.keys[1] = { commit: b.commit }
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
function decodeContent (content) {
  const c = new Cursor(content); const time = Number(c.take(8).readBigUInt64BE()); const records = []
  while (c.rest) {
    const n = c.uvarint()
    if (n === 0) { must(c.take(c.rest).every(b => b === 0), 'content'); break }
    records.push(decodeRecord(c.take(n)))
  }
  return { time, records }
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

// room: {log: RoomLog, key: async epoch => bytes, busActive: key => bool}. Throws Error(why) for what is not accepted.
export async function openFrame (room, sender, frame, live) {
  must(frame.length >= 84 + 64 + 8 && frame.length <= 1 << 20, 'header')
  must(frame.subarray(0, 3).toString() === 'ub1' && frame[3] < 2 && frame[4] < 4 && frame.readUIntBE(5, 3) === 0, 'header')
  const header = frame.subarray(0, 84); const nonce = frame.subarray(60, 84)
  const h = {
    suite: frame[3], more: !!(frame[4] & 1), final: !!(frame[4] & 2), epoch: frame.readUInt32BE(8), at: Number(frame.readBigUInt64BE(12)),
    hash: frame.subarray(20, 36), stream: hex(frame.subarray(36, 52)), counter: Number(frame.readBigUInt64BE(52))
  }
  must(h.suite === 1 || nonce.every(b => b === 0), 'header')
  must(h.suite === (room.log.head.policy.encryption === 'e2e' ? 1 : 0), 'suite') // encryption never changes
  const open = async () => {
    const about = cat('unibus/v1 frame\0', room.log.id, sender, header)
    let inner = frame.subarray(84)
    if (h.suite === 1) {
      const key = frameKey(await room.key(h.epoch), room.log.id, h.epoch)
      try { inner = Buffer.from(xchacha20poly1305(key, nonce, about).decrypt(inner)) } catch { throw new Error('does not open') }
    }
    must(inner.length >= 72, 'content')
    const content = inner.subarray(64)
    must(verify(sender, cat(Buffer.from([0xff, 0]), about, sha256(content)), inner.subarray(0, 64)), 'signature')
    return content
  }
  const state = room.log.at(h.at)
  must(h.at > 0 && state, 'at an entry that is withheld')
  const now = room.log.head.members.get(hex(sender))
  if (!same(state.hash.subarray(0, 16), h.hash)) {
    await open().catch(() => { throw new Error('forged') })
    throw new Error(now === 'owner' || now === 'admin' ? 'fork, proven' : 'fork, claimed')
  }
  must(writes(state.members.get(hex(sender))), 'not a writer')
  must(!live || (writes(now) && room.busActive(sender)), 'not a writer any more')
  must(h.epoch === state.epoch, 'epoch')
  must(!state.archived, 'archived')
  return { ...h, ...decodeContent(await open()), former: !writes(now) }
}

// §6 streams: frames of one sender and stream in the order of their counters, long messages put together again.
// emit({sender, headers, body, time, former}); note(text, finding = true).
export class Streams {
  constructor (emit, note, { stored, fromStart }) {
    Object.assign(this, { emit, note, stored, fromStart, all: new Map(), wait: stored ? 35e3 : 2e3 })
  }

  accept (sender, f, frame) {
    const id = hex(sender) + f.stream
    let s = this.all.get(id)
    if (!s) this.all.set(id, s = { id, sender, next: this.fromStart ? 0 : f.counter, seen: new Map(), held: new Map(), at: 0, time: 0 })
    const digest = hex(sha256(frame))
    const was = s.seen.get(f.counter) ?? s.held.get(f.counter)?.digest
    if (was) { if (was !== digest) this.note(`another frame under counter ${f.counter} of stream ${f.stream}`); return }
    if (f.counter < s.next) return this.note(`a late frame, counter ${f.counter} of stream ${f.stream}`)
    s.held.set(f.counter, { f, digest, until: Date.now() + this.wait })
    this.deliver(s)
  }

  // Go on behind gaps that are old enough, or, once the past has been read to its end, behind all.
  tick (pastEnded = false) {
    for (const s of this.all.values()) {
      if (s.held.size === 0) continue
      const first = Math.min(...s.held.keys())
      if (!pastEnded && s.held.get(first).until > Date.now()) continue
      this.note(`${s.next === 0 ? 'begins above 0' : 'gap'}: stream ${s.id.slice(64)}, counters ${s.next} to ${first - 1}`, this.stored && s.next > 0)
      s.next = first
      if (s.partial) s.partial = { lost: true } // its rest, the next frame's first record, is no message
      this.deliver(s)
    }
  }

  deliver (s) {
    for (let h; (h = s.held.get(s.next)); s.next++) {
      const { f, digest } = h
      s.held.delete(s.next); s.seen.set(s.next, digest)
      if (s.ended) { this.note('a frame after final'); continue }
      if (f.at < s.at || f.time < s.time) {
        this.note('at or time going back')
        if (s.partial) s.partial = { lost: true }
        continue
      }
      Object.assign(s, { at: f.at, time: f.time, ended: f.final })
      f.records.forEach((r, i) => {
        const p = i === 0 && s.partial ? s.partial : { headers: r.headers, parts: [], size: 0 }
        s.partial = undefined
        if (!p.lost && (p.size += r.body.length) > LARGEST) {
          this.note('a message of more than 64 MiB')
          Object.assign(p, { lost: true, parts: [] })
        }
        if (!p.lost) p.parts.push(r.body)
        if (f.more && i === f.records.length - 1) s.partial = p // it goes on in the next frame
        else if (!p.lost) this.emit({ sender: keyText(s.sender), headers: p.headers, body: cat(...p.parts), time: f.time, former: f.former })
      })
    }
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
