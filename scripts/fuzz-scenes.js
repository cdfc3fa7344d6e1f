// Sessions for fuzzing that no client of the conformance suite has, as lists of steps: what somebody in between does to TLS,
// what clients seldom do, and what the kept inputs did not reach before. Steps are as native/fuzz/session.h has them.

export const SEND = 0;
export const FILL = 1;
export const PUMP = 2;
const COMPLETE = 3;
const ANSWER = 5;
const TOGGLE_WAIT = 6;
const TOGGLE_READING = 9;
const TOGGLE_FAILURE = 10;
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
const HANG_UP = 23;

const WAITING = 1 << 0;
const LATER = 1 << 1;
const HOLES = 1 << 2;
const NARROW = 1 << 5;
const SHARED = 1 << 6;

// The first byte for fuzz_tls, as native/fuzz/fuzz_tls.cc has it: who the client is, and what the server demands.
const OLD_VERSION = 1 << 0;
const OFFERED = 1 << 1;
const [NOTHING, CERTIFICATE, KEY, WRONG_KEY, UNKNOWN_KEY, FOREIGN_CERTIFICATE] = [0, 1, 2, 3, 4, 5].map(
  (one) => one << 2,
);
const DEMANDING = 1 << 5;
const KEYS_ONLY = 1 << 6;
export const hands = [0, OLD_VERSION, OFFERED | KEY, OFFERED | OLD_VERSION | CERTIFICATE];

export function step(kind, value = 0, bytes = Buffer.alloc(0)) {
  const head = Buffer.alloc(3);
  head.writeUInt8(kind, 0);
  head.writeUInt16LE(value, 1);
  return Buffer.concat([head, bytes]);
}

const send = (...parts) => step(SEND, Buffer.concat(parts).length, Buffer.concat(parts));
const inject = (bytes) => step(INJECT, bytes.length, bytes);
const pump = step(PUMP);

const u16 = (value) => Buffer.from([value >> 8, value & 255]);
function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
const sized = (text) => Buffer.concat([u32(text.length), Buffer.from(text)]);
const option = (number, ...data) => {
  const bytes = Buffer.concat(data);
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(bytes.length), bytes]);
};

const FLAGS = u32(3);
const LIST = option(3);
export const START_TLS = option(5);
const STRUCTURED = option(8);
const EXTENDED = option(11);
const go = (name) => option(7, sized(name), u16(0));
const contexts = (name, ...queries) => option(10, sized(name), u32(queries.length), ...queries.map(sized));
const THREE = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:before'];

const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const WRITE_ZEROES = 6;
const STATUS = 7;
const PAYLOAD = 1 << 5;
const request = (type, offset, length, flags = 0) =>
  Buffer.concat([u32(0x25609513), u16(flags), u16(type), u64(0), u64(offset), u32(length)]);
const extended = (type, offset, length, flags = 0) =>
  Buffer.concat([u32(0x21e41c71), u16(flags), u16(type), u64(0), u64(offset), u64(length)]);
const filtered = (length, ...ids) =>
  Buffer.concat([extended(STATUS, 4096, 8 + 4 * ids.length, PAYLOAD), u64(length), ...ids.map(u32)]);

/** In clear: the settings, and the steps. */
export function* clearScenes() {
  const inExtended = [send(FLAGS), send(EXTENDED), send(contexts('huge', ...THREE)), send(go('huge')), pump];
  const filters = [[1], [2, 1], [3, 2, 1], [1, 1], [4], [0], []];
  for (const settings of [0, WAITING, SHARED]) {
    for (const ids of filters) yield { settings, steps: [...inExtended, send(filtered(8192, ...ids)), pump] };
    for (const type of [TRIM, WRITE_ZEROES, STATUS, READ, 5])
      yield { settings, steps: [...inExtended, send(extended(type, 4096, 2n ** 32n + 4096n)), pump] };
    const written = send(extended(WRITE, 512, 64, PAYLOAD), Buffer.alloc(64, 'w'));
    yield { settings, steps: [...inExtended, written, send(extended(WRITE, 0, 5)), send(LIST), pump] };
    yield { settings, steps: [...inExtended, send(extended(READ, 0, 2n ** 40n, PAYLOAD)), written, pump] };
    yield { settings, steps: [...inExtended, send(filtered(0, 1)), send(filtered(2n ** 62n, 3, 1)), pump] };
  }
  // An extent longer than a compact one can be.
  const inStructured = [
    send(FLAGS),
    send(STRUCTURED),
    send(contexts('huge', ...THREE)),
    send(go('huge')),
    pump,
  ];
  yield { settings: 0, steps: [...inStructured, send(request(STATUS, 0, 0xffffffff)), pump] };
  // Every error of a device.
  for (let error = 0; error < 12; error++)
    yield {
      settings: 0,
      steps: [...inStructured, step(TOGGLE_FAILURE, error), send(request(TRIM, 0, 4096)), pump],
    };
  // Clients that are gone when the answer comes.
  const entered = [send(FLAGS), send(go('disk')), pump];
  yield {
    settings: WAITING,
    steps: [...entered, send(request(READ, 0, 512)), step(HANG_UP), pump, step(COMPLETE, 9)],
  };
  yield { settings: LATER, steps: [...entered, step(ANSWER), step(HANG_UP), pump] };
  const unread = [
    step(TOGGLE_READING),
    send(request(READ, 0, 512)),
    step(TOGGLE_WAIT),
    send(request(READ, 0, 512)),
  ];
  yield { settings: 0, steps: [...entered, ...unread, step(HANG_UP), pump, step(COMPLETE, 9)] };
  // The last byte of a payload comes alone.
  const most = Buffer.alloc(63, 'w');
  const rest = [pump, send(Buffer.from('w')), pump];
  yield { settings: 0, steps: [...entered, send(request(WRITE, 512, 64), most), ...rest] };
  yield { settings: 0, steps: [...inExtended, send(extended(WRITE, 512, 64, PAYLOAD), most), ...rest] };
  // A status that is larger than what is built in place.
  yield { settings: HOLES, steps: [...inExtended, send(extended(STATUS, 0, 36 << 20)), pump] };
  // Answers that do not fit into the socket: of options, of reads, on a reactor that is shared.
  const many = (count, one) => send(...Array.from({ length: count }, () => one));
  for (const settings of [NARROW, NARROW | SHARED]) {
    yield { settings, steps: [step(TOGGLE_READING), send(FLAGS), many(12, LIST), send(go('disk')), pump] };
    yield {
      settings,
      steps: [...entered, step(TOGGLE_READING), many(8, request(READ, 0, 20_000)), pump, step(HANG_UP)],
    };
    yield { settings, steps: [...entered, step(TOGGLE_READING), many(8, request(READ, 0, 70_000)), pump] };
  }
}

/** At the boundary of TLS: the first byte, and the steps. */
export function* tlsScenes() {
  const entrance = [send(FLAGS), send(START_TLS), pump, pump, pump, pump];
  const reads = [request(READ, 0, 512), request(READ, 4096, 4096), request(FLUSH, 0, 0)].map((one) =>
    send(one),
  );
  const served = [...entrance, send(go('secret')), pump, ...reads, pump];
  const late = [pump, pump, send(go('disk')), pump];
  const scenes = [];
  for (const clear of [LIST, go('disk'), Buffer.concat([LIST, LIST]), Buffer.from([22])]) {
    scenes.push([send(FLAGS), inject(clear), send(START_TLS), pump, ...late]);
    scenes.push([send(FLAGS), send(START_TLS), inject(clear), ...late]);
    scenes.push([...served, inject(clear), ...reads, pump]);
  }
  const harms = [step(FLIP, 9), step(FLIP, 0xe009), step(REMOVE, 3), step(REMOVE, 0x0105), step(REPLAY)];
  for (const harm of harms) {
    scenes.push([send(FLAGS), send(START_TLS), step(CORK), pump, pump, harm, step(UNCORK), ...late]);
    scenes.push([...served, step(CORK), ...reads, harm, step(UNCORK), ...reads, pump]);
    scenes.push([...served, step(CORK, 30), ...reads, pump, harm, step(UNCORK), ...reads, pump]);
  }
  scenes.push([...served, step(CORK, 40), ...reads, step(END_SENDING)]);
  scenes.push([send(FLAGS), send(START_TLS), step(CORK, 100), pump, pump, step(END_SENDING)]);
  for (const rare of [KEY_UPDATE, RENEGOTIATE, FAREWELL, HANG_UP])
    scenes.push([...served, step(rare), ...reads, pump]);
  // An alert that warns, one that ends; a change of ciphers; a message of a handshake; no data.
  for (const [type, ...bytes] of [[21, 1, 0], [21, 2, 40], [20, 1], [22, 1, 0, 0, 0], [23]]) {
    const record = inject(Buffer.from([type, 3, 3, 0, bytes.length, ...bytes]));
    scenes.push([...served, record, ...reads, pump]);
    scenes.push([send(FLAGS), send(START_TLS), pump, record, pump, ...late]);
  }
  // What was negotiated, and refused, in clear; STARTTLS within TLS.
  const before = [
    send(FLAGS),
    send(STRUCTURED),
    send(contexts('disk', ...THREE)),
    send(go('secret')),
    send(LIST),
  ];
  scenes.push([...before, send(START_TLS), pump, ...late, ...reads, pump]);
  scenes.push([send(FLAGS), send(EXTENDED), send(START_TLS), pump, ...late, ...reads, pump]);
  scenes.push([...entrance, send(START_TLS), send(go('secret')), pump, ...reads, pump]);
  for (const steps of scenes) for (const first of hands) yield { first, settings: 0, steps };
  const many = Array.from({ length: 8 }, () => request(READ, 0, 20_000));
  yield {
    first: 0,
    settings: NARROW,
    steps: [...served, step(TOGGLE_READING), send(...many), pump, ...reads],
  };
  for (const shown of [NOTHING, CERTIFICATE, KEY, WRONG_KEY, UNKNOWN_KEY, FOREIGN_CERTIFICATE])
    for (const demand of [0, DEMANDING, KEYS_ONLY])
      for (const version of [0, OLD_VERSION])
        yield { first: shown | demand | version, settings: 0, steps: served };
}
