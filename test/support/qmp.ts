// A program of QEMU, driven over QMP on its standard streams.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import type { Teardown } from './daemon.js';
import { searchPath } from './programs.js';

export class Qmp {
  #child;
  #answers;
  stderr = '';

  private constructor(program: string, args: string[]) {
    this.#child = spawn(program, args, {
      env: { ...process.env, PATH: searchPath },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stdin.on('error', () => {}); // it may have ended: the missing answer says so
    this.#child.stderr.on('data', (bytes: Buffer) => {
      this.stderr += bytes;
    });
    this.#answers = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(t: Teardown, program: string, args: string[]): Promise<Qmp> {
    const qmp = new Qmp(program, args);
    t.teardown(() => qmp.#child.kill('SIGKILL'));
    await qmp.#next((message) => 'QMP' in message);
    await qmp.call('qmp_capabilities');
    return qmp;
  }

  /** A command that has to succeed; gives what it returns. */
  async call(execute: string, words: Record<string, unknown> = {}): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify({ execute, arguments: words })}\n`);
    const message = await this.#next((one) => 'return' in one || 'error' in one);
    if ('error' in message) throw new Error(`${execute}: ${JSON.stringify(message.error)}\n${this.stderr}`);
    return message.return;
  }

  /** Waits for an event; answers of nobody are passed over. */
  event(name: string): Promise<Record<string, unknown>> {
    return this.#next((message) => message.event === name);
  }

  /** A command of qemu-io on a node, by the monitor for humans, which tells of failures only. */
  async io(node: string, command: string): Promise<void> {
    const said = String(
      await this.call('human-monitor-command', { 'command-line': `qemu-io ${node} "${command}"` }),
    );
    if (said.trim() !== '') throw new Error(`${command}: ${said}`);
  }

  async quit(): Promise<number | null> {
    const ended = once(this.#child, 'exit');
    await this.call('quit');
    return (await ended)[0] as number | null;
  }

  async #next(wanted: (message: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done) throw new Error(`it ended: ${this.stderr}`);
      if (!value.startsWith('{')) continue; // what qemu-io prints
      const message = JSON.parse(value) as Record<string, unknown>;
      if (wanted(message)) return message;
    }
  }
}
