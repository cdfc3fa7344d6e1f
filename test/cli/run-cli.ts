// Runs the command line in this process with streams of its own, as the bin does with those of the process.

import { Readable, Writable } from 'node:stream';
import type { OfflineCheck } from '../../src/commands/check-command.js';
import type { SourcesOf } from '../../src/commands/doctor/doctor-command.js';
import { run } from '../../src/commands/program.js';

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  bytes: Buffer;
}

export interface CliOptions {
  api?: string;
  stdin?: Readable;
  signal?: AbortSignal;
  offlineCheck?: OfflineCheck;
  patienceMs?: number;
  sourcesOf?: SourcesOf;
}

export async function runCli(words: string[], options: CliOptions = {}): Promise<Outcome> {
  const stdout = new Collector();
  const stderr = new Collector();
  const code = await run(options.api === undefined ? words : ['--api', options.api, ...words], {
    version: '1.2.3',
    streams: { stdin: options.stdin ?? Readable.from([]), stdout, stderr },
    signal: options.signal ?? new AbortController().signal,
    offlineCheck: options.offlineCheck ?? (async () => ({ clean: true, problems: [], recordsSeen: 0n })),
    ...(options.sourcesOf === undefined ? {} : { sourcesOf: options.sourcesOf }),
    ...(options.patienceMs === undefined ? {} : { patienceMs: options.patienceMs }),
  });
  return {
    code,
    stdout: stdout.bytes().toString(),
    stderr: stderr.bytes().toString(),
    bytes: stdout.bytes(),
  };
}

class Collector extends Writable {
  readonly #chunks: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#chunks.push(Buffer.from(chunk));
    done();
  }
  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}
