// The configuration file of the package: it changes nothing as it stands, and what it says holds without it is the default.

import t from 'tap';
import { parseConfiguration } from '../../../src/agent/configuration.js';
import { exampleConfiguration } from '../../../src/agent/configuration-example.js';
import { configurationSections } from '../../../src/agent/configuration-keys.js';
import { makeSettings } from '../../../src/agent/settings.js';

const text = exampleConfiguration();
const keys = configurationSections().flatMap((section) => section.keys);
const NOTHING = { store: '/s', nbd: [], api: undefined };

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner as Record<string, unknown>)?.[key], value);
}

t.test('as it stands it says nothing', async (t) => {
  const settings = makeSettings(parseConfiguration(text, 'c.yaml'), NOTHING);
  t.same(settings, makeSettings({}, NOTHING));
});

t.test('every key can be taken out of its comment, and then has its default', async (t) => {
  const open = text
    .split('\n')
    .filter((line) => !line.includes(': <'))
    .map((line) => line.replace(/^#( +[a-z_]+:)/, '$1'))
    .filter((line) => !line.startsWith('#'))
    .join('\n');
  // Mappings in sections may have lost all their keys.
  const parsed = parseConfiguration(open.replaceAll(/^ +[a-z_]+:\n(?! {4})/gm, ''), 'c.yaml');
  const withDefault = keys.filter(({ fallback }) => fallback !== undefined);
  t.ok(withDefault.length > 20);
  for (const { path, fallback } of withDefault) t.same(at(parsed, path), fallback, path.join('.'));
});

t.test('a key without a default says what is allowed', async (t) => {
  for (const { path, allowed, fallback } of keys) {
    if (fallback === undefined) t.ok(text.includes(`${path.at(-1)}: <${allowed}>\n`), path.join('.'));
  }
});
