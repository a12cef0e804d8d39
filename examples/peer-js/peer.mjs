// A unibus peer with a stock NATS client, after SPEC.md §7. `node peer.mjs` tells its commands.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, headers, Events } from 'nats'
import * as u from './unibus.mjs'

const must = u.must
const FRAME = 1 << 20
const log = text => console.error('peer: ' + text)

// What was verified before (§4): which bus a server is, how far each log went, what a subject means.
class Pins {
  constructor (file) { this.file = file; this.all = existsSync(file) ? JSON.parse(readFileSync(file)) : {} }
  get (kind, name) { return this.all[kind]?.[name] }
  check (kind, name, value) {
    const was = this.get(kind, name)
    must(!was || was === value, `${kind} ${name} was ${was} and is now said to be ${value}`)
    this.set(kind, name, value)
  }

  set (kind, name, value) { (this.all[kind] ??= {})[name] = value; writeFileSync(this.file, JSON.stringify(this.all)) }
}

class Peer {
  rooms = new Map()
  constructor (identity, server, pins) { Object.assign(this, { identity, server, pins, logs: new Map() }) }

  // §7 Logging in. The library asks for a signature again at each reconnection, and gets a fresh token with it.
  async login (bus, rooms = []) {
    await this.close()
    this.inbox = u.random(16)
    this.prefix = '_INBOX.' + u.idText(this.inbox)
    this.apiToken = undefined
    this.nc = await connect({
      servers: this.server,
      inboxPrefix: this.prefix,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      timeout: 10e3,
      authenticator: nonce => ({
        nkey: u.keyText(this.identity.connection),
        sig: this.identity.nonce(nonce).toString('base64url'),
        auth_token: this.identity.token('connect', { bus, rooms, inbox: this.inbox })
      })
    })
    const nc = this.nc
    ;(async () => {
      for await (const s of nc.status()) {
        if (s.type === Events.Error) log('server: ' + s.data + ' ' + JSON.stringify(s.permissionContext ?? {}))
        if (s.type === Events.Reconnect) { log('connected again'); for (const r of this.rooms.values()) { r.again = true; r.wake?.() } }
      }
    })()
  }

  async close () { await this.nc?.close(); this.nc = undefined }

  // §7 Hello: which bus this is. The card goes along, for an admin to find.
  async hello () {
    await this.login(Buffer.alloc(0))
    const answer = await this.nc.request('unibus.hello.' + u.idText(this.inbox), await this.identity.card(), { timeout: 5000 })
    const first = new u.BusLog()
    first.append(Buffer.from(answer.json().founded, 'base64'))
    this.pins.check('bus', this.server, u.idText(first.id))
    return u.idText(first.id)
  }

  // Logs in, verifies the bus log, and logs in once more if a room is wanted, whose id the first login finds out.
  async start (subject) {
    this.bus = u.idBytes(this.pins.get('bus', this.server) ?? await this.hello())
    await this.login(this.bus)
    const card = await this.identity.card()
    await this.api('PUT', '/cards/' + this.identity.self, { card: card.toString('base64') })
    this.busLog = await this.sync(this.bus)
    must(this.busLog.active(this.identity.key), 'not on the allowlist')
    if (!subject) return
    const mine = (await this.api('GET', `/members/${this.identity.self}/rooms`)).json
    const found = mine.find(r => r.subject === subject)
    must(found, 'not in a room ' + subject)
    const id = u.idBytes(found.room_id)
    const room = new Room(this, id, await this.sync(id))
    must(room.head.subject === subject && u.hex(room.head.bus) === u.hex(this.bus), 'a room of another name or bus')
    this.pins.check('subject', subject, found.room_id)
    this.rooms.set(found.room_id, room)
    await this.login(this.bus, [id])
    this.notices()
    return room
  }

  // §7 Notices
  async notices () {
    for await (const m of this.nc.subscribe('unibus.n.' + this.identity.self)) {
      const id = u.idBytes(m.json().log)
      if (this.logs.has(u.hex(id))) await this.sync(id).catch(e => log(e.message))
    }
  }

  // §7 The membership API. Every request may be repeated.
  async api (method, path, body, patience = 20e3) {
    const end = Date.now() + patience
    for (let why = ''; ; await sleep(250)) {
      must(Date.now() < end, `${method} ${path}: ${why || 'no answer'}`)
      if (!(this.apiToken?.until > Date.now() + 60e3)) {
        this.apiToken = { until: Date.now() + 3600e3, text: this.identity.token('api', { bus: this.bus, inbox: this.inbox }) }
      }
      const h = headers()
      h.set('Method', method); h.set('Path', path); h.set('Authorization', 'Bearer ' + this.apiToken.text)
      let m
      try {
        m = await this.nc.request('unibus.api.' + u.idText(this.inbox), body ? JSON.stringify(body) : undefined, { headers: h, timeout: 5000 })
      } catch (e) {
        if (e.code === 'CONNECTION_CLOSED' || e.code === 'PERMISSIONS_VIOLATION') throw e
        why = e.code; continue // TIMEOUT, or 503: no service is there
      }
      const status = Number(m.headers.last('Status'))
      if (status < 300) return { data: Buffer.from(m.data), headers: m.headers, get json () { return m.json() } }
      const problem = m.json()
      why = problem.type + ': ' + (problem.detail ?? problem.title)
      if (status === 401) this.apiToken = undefined
      else if (status === 429) await sleep(1000 * Number(m.headers.last('Retry-After') || 1))
      else must(status === 503, why)
    }
  }

  // Brings a log up to its head and verifies it; calls for one log wait for each other. §4
  sync (id) {
    const k = u.hex(id)
    const entry = this.logs.get(k) ?? { log: u.hex(this.bus) === k ? new u.BusLog() : new u.RoomLog(), last: Promise.resolve() }
    this.logs.set(k, entry)
    const next = entry.last.catch(() => {}).then(() => this.fetchLog(id, entry.log))
    entry.last = next
    return next
  }

  async fetchLog (id, l) {
    const name = u.idText(id)
    for (let head; !head || l.head.seq < head.seq;) {
      const page = (await this.api('GET', `/logs/${name}?after=${l.head.seq}`)).json
      head = page.head
      must(head.seq >= l.head.seq && (page.entries.length || head.seq === l.head.seq), `log ${name} was rolled back, or is withheld`)
      for (const e of page.entries) l.append(Buffer.from(e, 'base64'))
      must(l.head.seq !== head.seq || u.hex(l.head.hash) === head.hash, `log ${name} is not what its head says`)
    }
    must(u.hex(l.id) === u.hex(id), `log ${name} has another id`)
    const pin = this.pins.get('log', name)
    must(!pin || (l.at(pin.seq) && u.hex(l.at(pin.seq).hash) === pin.hash), `log ${name} was rolled back`)
    if (pin?.seq !== l.head.seq) this.pins.set('log', name, { seq: l.head.seq, hash: u.hex(l.head.hash) })
    l.confirmed = Date.now()
    return l
  }
}

class Room {
  keys = new Map()
  refused = new Set()
  findings = 0
  constructor (peer, id, l) {
    Object.assign(this, { peer, id, log: l, name: u.idText(id), self: peer.identity.key, busActive: key => peer.busLog.active(key) })
  }

  get head () { return this.log.head }
  get stored () { return !!this.head.policy.retain }

  note = ({ kind, finding, sender, stream, from, to, why }) => {
    if (finding) this.findings++
    const range = from === undefined ? '' : `, ${stream ? 'counters' : 'places'} ${from} to ${to}`
    const whose = (sender ? ' of ' + u.keyText(sender) : '') + (stream ? ', stream ' + stream : '')
    log(`${finding ? 'finding' : 'notice'}: ${kind}${whose}${range}${why ? ': ' + why : ''}`)
  }

  // The key of an epoch: a copy sealed to me, or, from before I came, out of the epoch after it. §5
  async key (epoch) {
    const at = this.log.keys[epoch]
    must(at?.commit, 'no such epoch')
    if (!this.keys.has(epoch)) this.keys.set(epoch, this.fetchKey(epoch, at.commit))
    return this.keys.get(epoch)
  }

  async fetchKey (epoch, commit) {
    const copies = await this.peer.api('GET', `/rooms/${this.name}/keys/${epoch}`).then(a => a.json.sealed, e => {
      if (!e.message.startsWith('unibus:not-found')) throw e
      return []
    })
    for (const { sealed } of copies.slice(0, 8)) { // any of them may be garbage: the log's commitment decides
      try {
        return await this.peer.identity.openRoomKey(Buffer.from(sealed, 'base64'), this.id, epoch, commit)
      } catch {}
    }
    const later = this.log.keys[epoch + 1]
    must(later?.previous || !copies.length, `a copy of the key of epoch ${epoch} that opens, of those by ${copies.map(c => c.sealer)}`)
    if (!later?.previous) throw Object.assign(new Error('no key for epoch ' + epoch), { notGiven: true }) // from before I came
    const key = u.openPrevious(later.previous, await this.key(epoch + 1), this.id, epoch + 1)
    must(u.hex(u.commitment(key, epoch)) === u.hex(commit), 'not the committed key')
    return key
  }

  // One frame, of the past or live: verified, then put into its stream.
  async take (streams, sender, frame, how) {
    if (this.refused.has(u.hex(sender))) return
    if (frame.length >= 20 && frame.readBigUInt64BE(12) > this.head.seq) {
      await this.peer.sync(this.id).catch(e => this.note({ kind: 'log withheld', finding: true, why: e.message }))
    }
    try {
      await streams.take(sender, frame, how)
    } catch (e) {
      if (e.kind !== 'fork') throw e
      if (e.message === 'fork, proven') throw new Error('the room is frozen: two histories of it are signed by ' + u.keyText(sender))
      this.refused.add(u.hex(sender))
      this.note({ kind: 'fork', finding: true, sender, why: e.message })
    }
  }

  // §7 The past. Places from next on, to Last; query is that of the first request.
  async past (streams, next, query = `after=${next - 1}`) {
    for (let sure = Date.now() + 5000; ;) {
      const a = await this.peer.api('GET', `/rooms/${this.name}/frames?${query}`)
      const first = Number(a.headers.last('First')); const last = Number(a.headers.last('Last'))
      if (last < next - 1) {
        must(Date.now() < sure, 'the room was rolled back')
        await sleep(500); continue
      }
      streams.reaches(first)
      const lost = to => { // what is before the first place has expired, or is judged with the streams
        const from = Math.max(next, first)
        if (from <= to) this.note({ kind: 'lost', finding: true, from, to })
      }
      for (const f of parsePast(a.data)) {
        lost(f.place - 1)
        next = f.place + 1
        if (f.sender.some(b => b)) await this.take(streams, f.sender, f.frame, f)
      }
      if (a.data.length === 0) { // all has expired, or last=0, or it ends here; else it withholds
        if (next) lost(last)
        next = Math.max(next, last + 1)
      }
      if (next > last) return next
      query = `after=${next - 1}`
      sure = Date.now() + 5000
    }
  }

  // §7 Following. emit(message) may return true, for enough.
  async follow (emit, { all, end, ready }) {
    let enough = false
    const streams = new u.Streams(this, m => { if (emit(m)) enough = true }, this.note, { from: all ? 1 : undefined })
    const queue = []
    const sub = this.peer.nc.subscribe(`unibus.r.${this.name}.*`, { callback: (e, m) => { if (!e) { queue.push(m); this.wake?.() } } })
    await this.peer.nc.flush()
    let next = 0; let asked = Date.now()
    if (this.stored) {
      next = await this.past(streams, all ? 1 : 0, all ? 'after=0' : 'last=0')
      if (!all) streams.from = next
      streams.judge()
    }
    ready?.()
    for (let quiet = 1000; !(end && !streams.waiting) && !enough;) {
      const got = queue.length ? 'frame' : await this.sleep(Math.min(quiet, 1000), quiet)
      const again = this.again
      if (again) { this.again = false; await this.peer.sync(this.peer.bus); await this.peer.sync(this.id) }
      if (got === 'frame') quiet = 1000
      while (queue.length && !enough) {
        const m = queue.shift()
        const sender = u.keyBytes(m.subject.split('.')[3]); const frame = Buffer.from(m.data)
        if (!this.stored) { await this.take(streams, sender, frame, { live: true }); continue }
        const last = name => m.headers?.values(name).at(-1) // a writer's own values come first
        if (last('Nats-Stream') !== 'UNIBUS_' + this.name) continue
        if (last('Nats-Subject') !== `unibus.s.${this.name}.${u.keyText(sender)}`) continue
        const place = Number(last('Nats-Sequence'))
        if (place < next) continue
        if (place === next) { await this.take(streams, sender, frame, { live: true, place }); next++ } else next = await this.past(streams, next)
      }
      if (!this.stored) streams.judge()
      else if (!enough && (again || got === 'quiet' || Date.now() - asked > 15e3)) { // also where it is never quiet
        next = await this.past(streams, next)
        streams.judge()
        quiet = 15e3 + 50
        asked = Date.now()
      }
    }
    sub.unsubscribe()
  }

  // Until something comes ('frame'), a while has passed ('time'), or it was quiet for as long as given ('quiet').
  async sleep (step, quiet) {
    this.quietSince ??= Date.now()
    const why = await new Promise(resolve => {
      const timer = setTimeout(resolve, step, 'time')
      this.wake = () => { clearTimeout(timer); resolve('frame') }
    })
    this.wake = undefined
    if (why === 'time' && Date.now() - this.quietSince < quiet) return 'time'
    this.quietSince = undefined
    return why === 'time' ? 'quiet' : why
  }

  // §6 "A writer", §7 Publishing. messages: [{headers, body}]; twice: send each frame again, as after a lost answer.
  async publish (messages, { twice } = {}) {
    const stream = u.random(16); let counter = 0; let time = 0
    const server = this.peer.nc.info.max_payload - 512
    const room = Math.min(FRAME, server) - 84 - 64 - 16 - 8
    const size = this.head.policy.pad ? Math.floor(room * 0.85) : room // Padmé adds at most an eighth
    const all = [...u.frames(messages, size)]
    for (const f of all) {
      if (!(this.log.confirmed > Date.now() - 60e3)) { await this.peer.sync(this.peer.bus); await this.peer.sync(this.id) }
      const h = this.head; const { age } = h.policy.rekey_after
      must(!h.archived && ['owner', 'admin', 'member'].includes(h.members.get(u.hex(this.peer.identity.key))), 'I may not write here')
      must(!age || h.policy.encryption === 'none' || Date.now() - h.since < 1250 * age, 'the room needs a new key first')
      time = Math.max(time, Date.now() * 1000) // never going back
      const frame = u.sealFrame({
        identity: this.peer.identity,
        room: this.id,
        key: h.policy.encryption === 'e2e' ? await this.key(h.epoch) : undefined,
        epoch: h.epoch,
        at: h.seq,
        hash: h.hash,
        stream,
        counter: counter++,
        more: f.more,
        final: f === all.at(-1),
        content: u.encodeContent(time, f.records, h.policy.pad)
      })
      if (this.stored) await this.store(frame, twice)
      else this.peer.nc.publish(`unibus.r.${this.name}.${this.peer.identity.self}`, frame)
    }
    await this.peer.nc.flush()
  }

  async store (frame, twice) {
    const end = Date.now() + 30e3
    let id = u.random(16).toString('hex')
    for (let sent = 1; ; sent++) {
      let ack
      try {
        const h = headers(); h.set('Nats-Msg-Id', id)
        ack = (await this.peer.nc.request(`unibus.s.${this.name}.${this.peer.identity.self}`, frame, { headers: h, timeout: 2000 })).json()
      } catch (e) {
        must(e.code !== 'PERMISSIONS_VIOLATION', 'I may not write here')
        ack = { error: e } // no answer in time, or nobody there
      }
      const ok = !ack.error && ack.stream === 'UNIBUS_' + this.name
      if (ok && ack.duplicate && sent === 1) { id = u.random(16).toString('hex'); sent = 0; continue } // somebody else's
      if (ok && !(twice && sent === 1)) {
        if (sent > 1) log(`sent ${sent} times, stored at ${ack.seq}${ack.duplicate ? ', duplicate' : ''}`)
        return ack.seq
      }
      must(Date.now() < end, 'not acknowledged: ' + (ack.error?.description ?? ack.error?.message))
      if (!ok) await sleep(200)
    }
  }
}

// place u64 || stored u64 || sender(32) || length u32 || frame
function * parsePast (b) {
  for (let i = 0; i < b.length;) {
    const end = i + 52 + b.readUInt32BE(i + 48)
    must(end <= b.length, 'an answer that is cut short')
    const number = at => Number(b.readBigUInt64BE(at))
    yield { place: number(i), stored: number(i + 8), sender: b.subarray(i + 16, i + 48), frame: b.subarray(i + 52, end) }
    i = end
  }
}

// ---- commands

const USAGE = `node peer.mjs COMMAND, with UNIBUS_PEER=DIR for seed and pins, and NATS_URL:
  init                  make an identity, print its key
  hello                 ask which bus this is, verify and pin it, leave my card
  room SUBJECT          epoch, head and commitment of a room
  read SUBJECT          all that is stored, bodies one a line
  follow SUBJECT N      the next N messages; --all: begin with the first that is stored
  pub SUBJECT           messages from standard input, one a line; --whole: one; --twice: send each frame twice
  token                 an api token for HTTP
  open SUBJECT FILE     read the past that was fetched over HTTP`

const [command, subject, arg] = process.argv.slice(2).filter(a => !a.startsWith('--'))
const flag = name => process.argv.includes('--' + name)
const dir = process.env.UNIBUS_PEER ?? '.'
const print = m => { process.stdout.write(Buffer.concat([m.body, Buffer.from('\n')])) }

async function main () {
  if (command === 'init') {
    writeFileSync(dir + '/seed', u.seedText(u.random(32)) + '\n', { mode: 0o600, flag: 'wx' })
  } else if (!['hello', 'room', 'read', 'follow', 'pub', 'token', 'open'].includes(command)) {
    console.log(USAGE); return 2
  }
  const identity = new u.Identity(u.seedBytes(readFileSync(dir + '/seed', 'utf8')))
  if (command === 'init') { console.log(identity.self); return 0 }
  const peer = new Peer(identity, process.env.NATS_URL ?? 'nats://127.0.0.1:4222', new Pins(dir + '/pins.json'))
  try {
    if (command === 'hello') { console.log(await peer.hello()); return 0 }
    const room = await peer.start(command === 'token' ? undefined : subject)
    const h = room?.head
    let n = 0
    if (command === 'token') console.log(identity.token('api', { bus: peer.bus }))
    if (command === 'room') {
      const key = h.policy.encryption === 'e2e' ? await room.key(h.epoch) : undefined
      console.log(`room ${room.name}\nepoch ${h.epoch}\nhead ${h.seq} ${u.hex(h.hash)}\ncommit ${key ? u.hex(u.commitment(key, h.epoch)) : '-'}`)
    }
    if (command === 'read') await room.follow(print, { all: true, end: true })
    if (command === 'follow') await room.follow(m => { print(m); return ++n >= Number(arg) }, { all: flag('all'), ready: () => log('following') })
    if (command === 'open') {
      const frames = [...parsePast(readFileSync(arg))]
      const streams = new u.Streams(room, print, room.note, { from: frames[0]?.place ?? 1 })
      streams.reaches(1)
      for (const f of frames) await room.take(streams, f.sender, f.frame, f)
      streams.judge()
      log('up to place ' + (frames.at(-1)?.place ?? 0))
    }
    if (command === 'pub') {
      const input = readFileSync(0)
      const messages = flag('whole') ? [input] : input.toString().split('\n').slice(0, -1).map(l => Buffer.from(l))
      await room.publish(messages.map(body => ({ headers: [], body })), { twice: flag('twice') })
    }
    return room?.findings ? 6 : 0
  } finally { await peer.close() }
}

main().then(code => { process.exitCode = code }, e => { log(e.message || String(e)); process.exitCode = 1 })
