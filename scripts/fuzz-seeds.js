// Makes seeds for fuzzing out of recorded sessions of the conformance suite:
//
//   mkdir /tmp/sessions
//   CELLBLOCK_RECORD_SESSIONS=/tmp/sessions node dist/test/conformance/cellblock.test.js
//   CELLBLOCK_RECORD_SESSIONS=/tmp/sessions node dist/test/conformance/tls.test.js
//   node scripts/fuzz-seeds.js /tmp/sessions
//   npm run fuzz -- --minimise
//
// They go to build/fuzz/seeds, a directory for each target; --minimise takes from there what reaches something new. What no
// client of the suite does to TLS is made here.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

// As native/fuzz/session.h has them.
const SEND = 0;
const FILL = 1;
const PUMP = 2;
const END_SENDING = 11;
const CORK = 14;
const UNCORK = 15;
const INJECT = 16;
const FLIP = 17;
const REMOVE = 18;
const REPLAY = 19;
const KEY_UPDATE = 20;
const RENEGOTIATE = 21;
const FAREWELL = 22;
const FILL_UNIT = 64;
const LONGEST_SEED = 8192;
const LONGEST_SAID = 512; // payloads beyond are said by a fill

const step = (kind, value, bytes = Buffer.alloc(0)) => {
  const head = Buffer.alloc(3);
  head.writeUInt8(kind, 0);
  head.writeUInt16LE(value, 1);
  return Buffer.concat([head, bytes]);
};

function* pieces(recording) {
  for (let at = 0; at + 4 <= recording.length; ) {
    const length = recording.readUInt32BE(at);
    yield recording.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
}

function* steps(piece) {
  const said = piece.length > LONGEST_SAID ? piece.subarray(0, piece.length % FILL_UNIT) : piece;
  if (said.length > 0) yield step(SEND, said.length, said);
  for (let units = (piece.length - said.length) / FILL_UNIT; units > 0; units -= 0xffff) {
    yield step(FILL, Math.min(units, 0xffff));
  }
}

/** For fuzz_connection: with a turn of the loop between the pieces, as they were sent. */
function session(recording) {
  const all = [Buffer.from([0])];
  for (const piece of pieces(recording)) all.push(...steps(piece), step(PUMP, 0));
  return Buffer.concat(all);
}

// As native/fuzz/fuzz_tls.cc has them: who the client is, and what the server demands.
const OLD_VERSION = 1;
const OFFERED = 2;
const CERTIFICATE = 1 << 2;
const KEY = 2 << 2;
const WRONG_KEY = 3 << 2;
const UNKNOWN_KEY = 4 << 2;
const FOREIGN_CERTIFICATE = 5 << 2;
const DEMANDING = 1 << 5;
const KEYS_ONLY = 1 << 6;
const hands = [0, OLD_VERSION, OFFERED | KEY, OFFERED | OLD_VERSION | CERTIFICATE];

const START_TLS = Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0', 'latin1');
const LIST = Buffer.from('IHAVEOPT\0\0\0\x03\0\0\0\0', 'latin1');
const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);
const go = (name) =>
  Buffer.from(
    `IHAVEOPT\0\0\0\x07\0\0\0${String.fromCharCode(6 + name.length)}\0\0\0` +
      `${String.fromCharCode(name.length)}${name}\0\0`,
    'latin1',
  );
const request = (type, offset, length) => {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
};

const send = (bytes) => step(SEND, bytes.length, bytes);
const inject = (bytes) => step(INJECT, bytes.length, bytes);
const pump = step(PUMP, 0);
const entrance = [send(CLIENT_FLAGS), send(START_TLS), pump, pump, pump, pump];
const reads = [request(0, 0, 512), request(0, 4096, 4096), request(3, 0, 0)].map(send);
const served = [...entrance, send(go('secret')), pump, ...reads, pump];

/** What somebody between client and server does to TLS, and what a client seldom does: each with some hands. */
function* scenes() {
  const record = (type, ...bytes) => inject(Buffer.from([type, 3, 3, 0, bytes.length, ...bytes]));
  for (const clear of [LIST, go('disk'), Buffer.concat([LIST, LIST]), Buffer.from([22])]) {
    yield [send(CLIENT_FLAGS), inject(clear), send(START_TLS), pump, pump, pump, send(go('disk')), pump];
    yield [send(CLIENT_FLAGS), send(START_TLS), inject(clear), pump, pump, send(go('disk')), pump];
    yield [...served, inject(clear), ...reads, pump];
  }
  for (const harm of [
    step(FLIP, 9),
    step(FLIP, 0xe009),
    step(REMOVE, 3),
    step(REMOVE, 0x0105),
    step(REPLAY, 0),
  ]) {
    yield [
      send(CLIENT_FLAGS),
      send(START_TLS),
      step(CORK, 0),
      pump,
      pump,
      harm,
      step(UNCORK, 0),
      pump,
      pump,
      send(go('disk')),
      pump,
    ];
    yield [...served, step(CORK, 0), ...reads, harm, step(UNCORK, 0), ...reads, pump];
    yield [...served, step(CORK, 30), ...reads, pump, harm, step(UNCORK, 0), ...reads, pump];
  }
  yield [...served, step(CORK, 40), ...reads, step(END_SENDING, 0)];
  yield [send(CLIENT_FLAGS), send(START_TLS), step(CORK, 100), pump, pump, step(END_SENDING, 0)];
  for (const rare of [KEY_UPDATE, RENEGOTIATE, FAREWELL]) yield [...served, step(rare, 0), ...reads, pump];
  // Alerts: a warning, an end; a change of ciphers; a handshake message; an empty record of data.
  for (const one of [
    record(21, 1, 0),
    record(21, 2, 40),
    record(20, 1),
    record(22, 1, 0, 0, 0),
    record(23),
  ]) {
    yield [...served, one, ...reads, pump];
    yield [send(CLIENT_FLAGS), send(START_TLS), pump, one, pump, pump, pump, send(go('disk')), pump];
  }
  yield [
    send(CLIENT_FLAGS),
    send(go('secret')),
    send(LIST),
    send(START_TLS),
    pump,
    pump,
    pump,
    send(START_TLS),
    send(go('secret')),
    pump,
  ];
}

function keepTlsSeeds() {
  for (const scene of scenes()) {
    for (const first of hands) keep('fuzz_tls', Buffer.from([first, 0]), ...scene);
  }
  for (const shown of [0, CERTIFICATE, KEY, WRONG_KEY, UNKNOWN_KEY, FOREIGN_CERTIFICATE]) {
    for (const demand of [0, DEMANDING, KEYS_ONLY]) {
      for (const version of [0, OLD_VERSION])
        keep('fuzz_tls', Buffer.from([shown | demand | version, 0]), ...served);
    }
  }
}

/** For fuzz_handshake: the bytes themselves, behind two that say how they are cut. */
const stream = (recording) => Buffer.concat([Buffer.from([7, 0]), ...pieces(recording)]);

function keep(target, ...parts) {
  const seed = Buffer.concat(parts);
  const folder = path.join(root, 'build/fuzz/seeds', target);
  mkdirSync(folder, { recursive: true });
  const name = createHash('sha1').update(seed).digest('hex');
  if (seed.length <= LONGEST_SEED) writeFileSync(path.join(folder, name), seed);
}

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error('usage: node scripts/fuzz-seeds.js DIRECTORY');
  process.exit(2);
}
for (const name of readdirSync(folder)) {
  const recording = readFileSync(path.join(folder, name));
  keep('fuzz_connection', session(recording));
  keep('fuzz_handshake', stream(recording));
  const hand = hands[recording.length % hands.length];
  if (recording.includes(START_TLS)) keep('fuzz_tls', Buffer.from([hand]), session(recording));
}
keepTlsSeeds();
