// Names in place of names: the same one each time, in whatever text or value. Which is which is known here only.

import { parseJson } from '../api-client.js';
import { toJson } from '../terminal.js';

export type NameKind = 'volume' | 'snapshot' | 'host' | 'cell' | 'client';

/** Values at these keys are words of the program, or times: names that look like them are not to be told from them. */
const WORDS: ReadonlySet<string> = new Set([
  ...[
    'verdict',
    'area',
    'check',
    'state',
    'kind',
    'role',
    'unit',
    'engine',
    'engineWanted',
    'mode',
    'type',
    'holds',
  ],
  ...[
    'code',
    'level',
    'id',
    'key',
    'loadState',
    'activeState',
    'fileState',
    'result',
    'error',
    'errno',
    'event',
  ],
  ...[
    'created',
    'at',
    'time',
    'expires',
    'started',
    'ended',
    'changed',
    'from',
    'version',
    'node',
    'release',
  ],
]);
/** At these keys stands VOLUME or VOLUME@SNAPSHOT, also of what is gone. */
const REFERENCES: ReadonlySet<string> = new Set([
  ...[
    'name',
    'volume',
    'fullName',
    'subject',
    'clonedFrom',
    'clones',
    'target',
    'source',
    'export',
    'origin',
  ],
  ...['failedVolumes', 'volumes', 'targets'],
]);
/** What people write, or what tells as much as a name. */
const LEFT_OUT: ReadonlySet<string> = new Set(['description', 'where', 'transactionLog']);

export class Pseudonyms {
  readonly #byKind = new Map<string, string>();
  readonly #byName = new Map<string, string>();
  readonly #counts = new Map<NameKind, number>();
  #pattern: RegExp | null = null;

  of(kind: NameKind, name: string): string {
    if (name === '') return name;
    const known = this.#byKind.get(`${kind} ${name}`);
    if (known !== undefined) return known;
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    const pseudonym = `${kind}-${count}`;
    this.#byKind.set(`${kind} ${name}`, pseudonym);
    if (!this.#byName.has(name)) this.#byName.set(name, pseudonym);
    this.#pattern = null;
    return pseudonym;
  }

  /** VOLUME or VOLUME@SNAPSHOT. */
  reference(text: string): string {
    const at = text.indexOf('@');
    if (at < 0) return this.of('volume', text);
    return `${this.of('volume', text.slice(0, at))}@${this.of('snapshot', text.slice(at + 1))}`;
  }

  /** Every name that is known, as a word of its own. */
  text(text: string): string {
    this.#pattern ??= patternOf([...this.#byName.keys()]);
    return text.replace(this.#pattern, (name) => this.#byName.get(name) ?? name);
  }

  /** A message: what stands in quotes is a name, also of what is gone. */
  #message(text: string): string {
    return this.text(
      text.replace(/"((?:[^"\\]|\\.)+)"/g, (_all, inner: string) => `"${this.#quoted(inner)}"`),
    );
  }

  #quoted(inner: string): string {
    if ([...this.#byName.values()].includes(inner)) return inner;
    try {
      return this.reference(JSON.parse(`"${inner}"`) as string);
    } catch {
      return this.reference(inner);
    }
  }

  /** A value of an answer, a report, or a line of the log. */
  value(value: unknown, key = ''): unknown {
    if (LEFT_OUT.has(key)) return value === null || value === '' ? value : '[left out]';
    if (typeof value === 'string') return this.#string(value, key);
    if (Array.isArray(value)) return value.map((one) => this.value(one, key));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, this.value(inner, name)]));
  }

  #string(text: string, key: string): string {
    if (WORDS.has(key)) return text;
    if (REFERENCES.has(key)) return this.reference(text);
    if (key === 'host' || key === 'cell') return this.of(key, text);
    if (key === 'allow')
      return text.replace(/^(tls:)(.+)$/s, (_all, how, who) => `${how}${this.of('client', who)}`);
    return this.#message(text);
  }

  /** A line of the log: JSON, behind the time journalctl puts before it. */
  line(line: string): string {
    const at = line.indexOf('{');
    if (at < 0) return this.#message(line);
    try {
      const value = parseJson(line.slice(at)) as object;
      return line.slice(0, at) + toJson(this.value(value), 0);
    } catch {
      return this.#message(line);
    }
  }

  /** Metrics as Prometheus reads them: names stand in labels only. */
  metrics(text: string): string {
    return text.replace(
      /\b(volume|export)="((?:[^"\\]|\\.)*)"/g,
      (_all, label: string, value: string) =>
        `${label}="${this.reference(value.replace(/\\(["\\n])/g, (_found, character) => (character === 'n' ? '\n' : character)))}"`,
    );
  }
}

/** Longer ones first: one may begin with another. */
function patternOf(names: readonly string[]): RegExp {
  if (names.length === 0) return /(?!)/g;
  const parts = [...names]
    .sort((a, b) => b.length - a.length)
    .map((name) => name.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
  return new RegExp(`(?<![\\p{L}\\p{N}_])(?:${parts.join('|')})(?![\\p{L}\\p{N}_])`, 'gu');
}
