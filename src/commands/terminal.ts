// Where a command's words go: results to stdout, everything else to stderr, progress bars only where a person watches. With --json
// stdout carries nothing but JSON.

import type { SingleBar } from 'cli-progress';
import { formatBytes } from './format.js';
import { disturbing, printable } from './table.js';

export interface Streams {
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
}

export interface Progress {
  /** Bytes done so far; `total` may become known later. */
  update(done: bigint, total: bigint): void;
  end(): void;
}

const SILENT: Progress = { update: () => undefined, end: () => undefined };

export class Terminal {
  readonly json: boolean;
  readonly #streams: Streams;

  constructor(options: { json: boolean }, streams: Streams = process) {
    this.json = options.json;
    this.#streams = streams;
  }

  /** The result of the command: the value as JSON with --json, else the text. */
  result(value: unknown, text: () => string): void {
    this.#streams.stdout.write(this.json ? `${toJson(value)}\n` : text());
  }

  /** A result that must not be on stdout, which carries something else. */
  aside(value: unknown, text: () => string): void {
    this.#streams.stderr.write(this.json ? `${toJson(value)}\n` : text());
  }

  /** Part of a result that comes bit by bit; with --json it is in the final value. */
  text(text: string): void {
    if (!this.json) this.#streams.stdout.write(text);
  }

  /** A remark for people; never mixed into a result. */
  note(text: string): void {
    if (!this.json) this.error(text);
  }

  /** One line, whatever names are in it. */
  error(text: string): void {
    this.#streams.stderr.write(`${printable(text)}\n`);
  }

  async progress(label: string): Promise<Progress> {
    const { stderr } = this.#streams;
    if (this.json || stderr.isTTY !== true) return SILENT;
    return bar(label, stderr);
  }
}

/** Byte quantities are bigint; JSON integers have no limit. */
export function toJson(value: unknown, indent = 2): string {
  const text = JSON.stringify(
    value,
    (_key, inner: unknown) => (typeof inner === 'bigint' ? `\u0001${inner}\u0001` : inner),
    indent,
  );
  return (text ?? 'null')
    .replaceAll(/"\\u0001(-?\d+)\\u0001"/g, '$1')
    .replaceAll(disturbing, (found) => (found === '\n' ? found : escaped(found)));
}

/** As JSON writes it: the value stays the same. */
function escaped(characters: string): string {
  return characters
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}

async function bar(label: string, stream: NodeJS.WritableStream): Promise<Progress> {
  // Loaded where it is seen: most commands show none.
  const { MultiBar } = await import('cli-progress');
  const bars = new MultiBar({
    stream,
    clearOnComplete: true,
    hideCursor: true,
    format: `${label} {bar} {percentage}% {text}`,
  });
  let single: SingleBar | undefined;
  return {
    update(done, total) {
      // The bar counts thousandths: byte counts may exceed what it can hold.
      const share = total === 0n ? 1000 : Number((done * 1000n) / total);
      const text = { text: `${formatBytes(done)} of ${formatBytes(total)}` };
      single ??= bars.create(1000, share, text);
      single.update(share, text);
    },
    end() {
      bars.stop();
    },
  };
}
