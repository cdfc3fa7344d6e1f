// Programs of others as test subjects: run to the end with everything they said, or kept running until stopped.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** A program that takes longer is hung and is killed; far above anything used here. */
const HANG_MS = 10 * 60_000;

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** The command as one could type it, and what it said: for messages of failed checks. */
  story: string;
}

export interface RunOptions {
  input?: Buffer | string;
  env?: Record<string, string>;
  cwd?: string;
  /** A bound against hanging for ever; 10 minutes. */
  hangMs?: number;
}

export const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');

/** sbin directories are not on everybody's PATH. */
export const searchPath = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Where a program lies, or null. */
export function find(program: string): string | null {
  for (const folder of searchPath.split(':')) {
    const file = path.join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  return null;
}

/** Why a test has to be skipped: the first program that is not there, or false. */
export function missing(...programs: string[]): string | false {
  const lacking = programs.filter((program) => find(program) === null);
  return lacking.length > 0 && `not installed: ${lacking.join(', ')}`;
}

/** Runs a program to its end; never throws for what it did. */
export function run(program: string, args: string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? repositoryRoot,
      env: { ...process.env, PATH: searchPath, LC_ALL: 'C', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const hang = setTimeout(() => child.kill('SIGKILL'), options.hangMs ?? HANG_MS);
    const said: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
    child.stdout.on('data', (bytes: Buffer) => said.stdout.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => said.stderr.push(bytes));
    child.stdin.on('error', () => {}); // it may end without reading everything
    child.stdin.end(options.input ?? '');
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(hang);
      const stdout = Buffer.concat(said.stdout).toString();
      const stderr = Buffer.concat(said.stderr).toString();
      const end = signal ? `killed by ${signal}` : `exit code ${code}`;
      const story = `${[program, ...args].map(quote).join(' ')}\n${end}\n${stderr}${stdout}`.slice(0, 20_000);
      resolve({ code, signal, stdout, stderr, story });
    });
  });
}

/** Runs a program that has to succeed; gives what it printed. */
export async function must(program: string, args: string[], options: RunOptions = {}): Promise<string> {
  const outcome = await run(program, args, options);
  if (outcome.code !== 0) throw new Error(`failed: ${outcome.story}`);
  return outcome.stdout;
}

/** The same, at once: for clean-up in the teardown of a test. */
export function mustNow(program: string, args: string[]): void {
  const done = spawnSync(program, args, { env: { ...process.env, PATH: searchPath }, encoding: 'utf8' });
  if (done.status !== 0)
    throw new Error(`failed: ${[program, ...args].map(quote).join(' ')}\n${done.stderr}`);
}

/** A program that runs until it is stopped. */
export class Running {
  readonly child: ChildProcess;
  /** What it said last, for messages; bounded. */
  output = '';
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #over = false;

  constructor(program: string, args: string[], options: RunOptions = {}) {
    this.child = spawn(program, args, {
      cwd: options.cwd ?? repositoryRoot,
      env: { ...process.env, PATH: searchPath, LC_ALL: 'C', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (bytes: Buffer): void => {
      this.output = (this.output + bytes.toString()).slice(-20_000);
    };
    this.child.stdout?.on('data', keep);
    this.child.stderr?.on('data', keep);
    const killWithUs = (): void => {
      this.child.kill('SIGKILL');
    };
    process.once('exit', killWithUs);
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.#over = true;
        process.off('exit', killWithUs);
        resolve({ code, signal });
      };
      this.child.once('exit', end);
      this.child.once('error', (error) => {
        keep(Buffer.from(String(error)));
        end(null, null);
      });
    });
  }

  get isOver(): boolean {
    return this.#over;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  async stop(
    signal: NodeJS.Signals = 'SIGTERM',
  ): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    if (!this.#over) this.child.kill(signal);
    return this.ended;
  }
}
