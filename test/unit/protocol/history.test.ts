// A schema cannot change unseen: what each version says lies in src/protocol/history. And the AsyncAPI document is one.

import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Ajv } from 'ajv';
import t from 'tap';
import { asyncApiDocument } from '../../../src/protocol/asyncapi.js';
import { FAULTS } from '../../../src/protocol/faults.js';
import { currentEntry, digestOf, type HistoryEntry } from '../../../src/protocol/history.js';
import { MESSAGES } from '../../../src/protocol/messages.js';
import {
  chooseSubprotocol,
  PROTOCOL_VERSION,
  SPOKEN_VERSIONS,
  VERSION_CHANGES,
} from '../../../src/protocol/version.js';
import { SAMPLES } from '../../support/protocol-samples.js';

const directory = path.join(process.cwd(), 'src/protocol/history');

function entryOf(version: number): HistoryEntry {
  return JSON.parse(readFileSync(path.join(directory, `${version}.json`), 'utf8')) as HistoryEntry;
}

t.test('the schemas of today are those of the newest version', async (t) => {
  const current = JSON.parse(JSON.stringify(currentEntry())) as HistoryEntry;
  t.same(
    current.messages,
    entryOf(PROTOCOL_VERSION).messages,
    'a schema has changed: say in src/protocol/version.ts what the new version brings, and run `node dist/src/main/make-pages.js`',
  );
});

t.test('every version has its entry, which nobody has edited since', async (t) => {
  const versions = VERSION_CHANGES.map((_, index) => index + 1);
  t.same(readdirSync(directory).sort(), versions.map((version) => `${version}.json`).sort());
  for (const version of versions) {
    const entry = entryOf(version);
    t.equal(entry.version, version);
    t.equal(entry.changes, VERSION_CHANGES[version - 1]);
    t.equal(entry.digest, digestOf(entry.messages), `version ${version} is as it was written`);
  }
});

t.test('a change of any schema changes the digest', async (t) => {
  const { messages, digest } = currentEntry();
  for (const type of Object.keys(messages)) {
    const changed = structuredClone(messages) as Record<
      string,
      { schema: { properties: Record<string, unknown> } }
    >;
    changed[type]!.schema.properties.more = { type: 'string' };
    t.not(digestOf(changed), digest, type);
  }
});

t.test('the highest version in common is chosen', async (t) => {
  t.same(SPOKEN_VERSIONS[0], PROTOCOL_VERSION);
  t.equal(chooseSubprotocol(['cellblock.v99', 'cellblock.v1']), 'cellblock.v1');
  t.equal(chooseSubprotocol(['cellblock.v99', 'chat']), undefined);
  t.equal(chooseSubprotocol([]), undefined);
});

t.test('the AsyncAPI document fits the schema of AsyncAPI 3, and its payloads the messages', async (t) => {
  const require = createRequire(import.meta.url);
  const schema = require('@asyncapi/specs/schemas/3.0.0-without-$id.json') as object;
  const document = asyncApiDocument() as { components: { messages: Record<string, { payload: object }> } };
  // Its formats are those of addresses and the like; none of them is looked at by the structure.
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const validate = ajv.compile(schema);
  t.ok(validate(JSON.parse(JSON.stringify(document))), JSON.stringify(validate.errors?.slice(0, 3)));
  t.notOk(validate({ ...document, channels: { session: { messages: 1 } } }), 'the schema does look');
  for (const type of Object.keys(MESSAGES) as (keyof typeof MESSAGES)[]) {
    const payload = ajv.compile(document.components.messages[type]!.payload);
    t.ok(payload(SAMPLES[type]), `${type}: ${JSON.stringify(payload.errors)}`);
    t.notOk(payload({ ...SAMPLES[type], more: 1 }), `${type} with another key`);
  }
});

t.test('the page on the protocol names every fault as it is', async (t) => {
  const page = readFileSync(path.join(process.cwd(), 'docs/coordinator-protocol.md'), 'utf8');
  for (const [code, { close, meaning }] of Object.entries(FAULTS))
    t.ok(page.includes(`| \`${code}\` | ${close ?? 'goes on'} | ${meaning} |`), code);
  const closes = Object.values(FAULTS).flatMap(({ close }) => close ?? []);
  t.equal(new Set(closes).size, closes.length, 'and no close code stands for two');
});
