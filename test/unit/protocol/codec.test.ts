// What is taken for a message, and what is refused with which code.

import t from 'tap';
import { asText, decode, encode } from '../../../src/protocol/codec.js';
import { LIMITS } from '../../../src/protocol/limits.js';
import { MESSAGES, type Message } from '../../../src/protocol/messages.js';
import { ALL_SAMPLES, helloOf, idOf, SAMPLES } from '../../support/protocol-samples.js';

function codeOf(text: string): string {
  const decoded = decode(text);
  return 'fault' in decoded ? decoded.fault.code : decoded.message.type;
}

t.test('every message arrives as it was sent', async (t) => {
  t.equal(ALL_SAMPLES.length, Object.keys(MESSAGES).length, 'there is a sample of each');
  for (const sample of ALL_SAMPLES) t.same(decode(encode(sample)), { message: sample }, sample.type);
});

t.test('every key of every message is needed, and no other is taken', async (t) => {
  for (const sample of ALL_SAMPLES) {
    const { schema } = MESSAGES[sample.type] as { schema: { required?: string[] } };
    for (const key of Object.keys(sample)) {
      const { [key]: _left, ...rest } = sample as unknown as Record<string, unknown>;
      t.equal(codeOf(JSON.stringify(rest)), 'malformed', `${sample.type} without ${key}`);
    }
    t.ok(schema.required?.includes('type'), `${sample.type} says its type`);
    t.equal(codeOf(JSON.stringify({ ...sample, more: 1 })), 'malformed', `${sample.type} with another key`);
  }
});

t.test('what is no message of JSON', async (t) => {
  for (const text of [
    '',
    ' ',
    'hello',
    '{',
    '[]',
    'null',
    '1',
    '"hello"',
    '{}',
    '{"type":1}',
    '{"type":"toString"}',
    '{"type":"__proto__"}',
  ])
    t.equal(codeOf(text), 'malformed', JSON.stringify(text));
});

t.test('names and numbers beyond their bounds', async (t) => {
  const wrong: Record<string, unknown>[] = [
    { host: '' },
    { host: 'a'.repeat(64) },
    { host: 'a/b' },
    { host: '-a' },
    { host: 'a\n' },
    { boot: 0 },
    { boot: 1.5 },
    { boot: 2 ** 53 },
    { storeId: idOf(1).toUpperCase().replace('0', 'A') },
    { program: 'x'.repeat(LIMITS.text + 1) },
    { nbd: Array(LIMITS.addresses + 1).fill('tcp:a:1') },
    { versions: [] },
    { versions: [0] },
    { volumes: [{ ...helloOf('a').volumes[0], state: 'UNKNOWN' }] },
    { resume: {} },
  ];
  for (const more of wrong)
    t.equal(codeOf(JSON.stringify({ ...helloOf('a'), ...more })), 'malformed', JSON.stringify(more));
});

t.test(
  'a hello with as many volumes and groups as are allowed fits a message; one volume more is refused',
  async (t) => {
    const volumes = Array.from({ length: LIMITS.volumes }, (_, number) => ({
      id: idOf(number),
      epoch: Number.MAX_SAFE_INTEGER,
      head: { id: idOf(number), seq: Number.MAX_SAFE_INTEGER },
      state: 'RECEIVING' as const,
    }));
    const part = (number: number) => ({
      volume: idOf(number),
      host: 'h'.repeat(63),
      epoch: Number.MAX_SAFE_INTEGER,
      snapshot: idOf(number),
      name: '"'.repeat(128),
    });
    const each = LIMITS.groupParts / LIMITS.groups;
    const groups = Array.from({ length: LIMITS.groups }, (_, number) => ({
      group: idOf(number),
      parts: Array.from({ length: each }, (_, at) => part(at)),
    }));
    t.equal(codeOf(encode(helloOf('a', { volumes, groups }))), 'hello');
    t.equal(
      codeOf(JSON.stringify(helloOf('a', { volumes: [...volumes, { ...volumes[0]!, id: idOf(1e9) }] }))),
      'malformed',
    );
  },
);

t.test('what is larger or deeper than a message may be is refused before it is parsed', async (t) => {
  t.equal(codeOf(`"${'x'.repeat(LIMITS.messageBytes)}"`), 'too-large');
  t.equal(codeOf(`"${'ü'.repeat(LIMITS.messageBytes / 2)}"`), 'too-large', 'bytes count, not characters');
  t.equal(codeOf('['.repeat(1_000_000)), 'too-large');
  t.equal(codeOf('{"a":'.repeat(LIMITS.depth + 1)), 'too-large');
  const brackets = { ...SAMPLES.result, value: '['.repeat(1_000) };
  t.equal(codeOf(JSON.stringify(brackets)), 'result', 'brackets in a string are not nested');
  t.equal(
    codeOf(JSON.stringify({ ...brackets, value: `\\"${'['.repeat(1_000)}` })),
    'result',
    'nor behind a quoted quote',
  );
});

t.test('a hello of other versions is told which are spoken here, however it looks otherwise', async (t) => {
  t.equal(codeOf('{"type":"hello","versions":[2,3],"anything":{}}'), 'version-unsupported');
  t.equal(codeOf(JSON.stringify({ ...helloOf('a'), versions: [2] })), 'version-unsupported');
  t.equal(codeOf(JSON.stringify({ ...helloOf('a'), versions: [2, 1] })), 'hello');
  t.equal(codeOf('{"type":"hello","versions":["2"]}'), 'malformed');
});

t.test('a refusal repeats nothing that was sent but names of keys', async (t) => {
  const secret = 'tok-3c5e';
  for (const sample of ALL_SAMPLES)
    for (const key of Object.keys(sample)) {
      const decoded = decode(JSON.stringify({ ...sample, [key]: { [`${secret} ${secret}`]: secret } }));
      if ('fault' in decoded) t.notMatch(decoded.fault.message, secret);
    }
});

t.test('what does not fit its own schema is not sent', async (t) => {
  t.throws(() => encode({ ...SAMPLES.probe, volume: 'v' }), TypeError);
  t.throws(() => encode({ ...SAMPLES.result, value: 'x'.repeat(LIMITS.messageBytes) }), RangeError);
  t.equal(asText('x'.repeat(5_000)).length, LIMITS.text);
  const cut = asText(`${'x'.repeat(LIMITS.text - 2)}😀😀`);
  t.equal(codeOf(encode({ ...SAMPLES.error, message: cut } as Message)), 'error');
  t.notMatch(cut, /[\ud800-\udbff](?![\udc00-\udfff])/, 'not within a character');
});
