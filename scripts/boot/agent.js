// An agent of its own in a folder, and its command line.
import { spawn } from 'node:child_process';
import { existsSync, openSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, until } from './command.js';

const programs = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../dist/src/main');

export class Agent {
  constructor(folder) {
    this.nbd = path.join(folder, 'nbd.sock');
    this.api = path.join(folder, 'api.sock');
    const places = ['--store', path.join(folder, 'store'), '--nbd', `unix:${this.nbd}`, '--api', this.api];
    const log = openSync(path.join(folder, 'agent.log'), 'a');
    const program = path.join(programs, 'cellblockd.js');
    this.child = spawn(process.execPath, [program, ...places], { stdio: ['ignore', log, log] });
    this.closed = new Promise((resolve) => this.child.on('close', resolve));
  }

  async ready() {
    const isThere = await until(() => existsSync(this.api) && existsSync(this.nbd), 30);
    if (!isThere) throw new Error('the agent did not start; its log is agent.log in the folder of this run');
  }

  /** Runs `cellblock` with these words; answers what it printed. */
  async tell(...words) {
    const program = path.join(programs, 'cellblock.js');
    return run(process.execPath, [program, '--api', this.api, ...words], { seconds: 300 });
  }

  /** The same, and the result as a value. */
  async ask(...words) {
    return JSON.parse(await this.tell('--json', ...words));
  }

  async stop() {
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    await this.closed;
    clearTimeout(timer);
  }
}
