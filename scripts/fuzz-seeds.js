// Makes seeds for fuzzing out of recorded sessions of the conformance suite, and of the scenes of fuzz-scenes.js:
//
//   mkdir /tmp/sessions
//   CELLBLOCK_RECORD_SESSIONS=/tmp/sessions node dist/test/conformance/cellblock.test.js
//   CELLBLOCK_RECORD_SESSIONS=/tmp/sessions node dist/test/conformance/tls.test.js
//   node scripts/fuzz-seeds.js /tmp/sessions
//   npm run fuzz -- --minimise
//
// They go to build/fuzz/seeds, a directory for each target; --minimise takes from there what reaches something new.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { clearScenes, FILL, hands, PUMP, SEND, START_TLS, step, tlsScenes } from './fuzz-scenes.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const FILL_UNIT = 64;
const LONGEST_SEED = 8192;
const LONGEST_SAID = 512; // payloads beyond are said by a fill

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
for (const { settings, steps } of clearScenes()) keep('fuzz_connection', Buffer.from([settings]), ...steps);
for (const { first, settings, steps } of tlsScenes())
  keep('fuzz_tls', Buffer.from([first, settings]), ...steps);
