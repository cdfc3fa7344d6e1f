// The gate of an agent: what it and its coordinators say to one another, message by message, and holding one of them. So a test knows at which step
// of a move everybody is, whatever the time. That of a coordinator is the same between it and the members of etcd: what it stores, write by write.

import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { Spot } from '../support/network-lab.js';
import { repositoryRoot, searchPath } from '../support/programs.js';

export type Way = 'to-host' | 'to-coordinator' | 'to-etcd';

export interface GateSetting {
  ca: string;
  server: { certificate: string; key: string };
  host: { certificate: string; key: string };
  /** Ports of loopback in the namespace of the agent, and where each leads: wss://ADDRESS:PORT. */
  ways: { port: number; address: string }[];
}

export interface StateGateSetting {
  /** Ports of loopback in the namespace of the coordinator, and where each leads: http://ADDRESS:PORT. */
  ways: { port: number; address: string }[];
}

export type GateOrder =
  | { do: 'hold'; id: number; label: string }
  | { do: 'forget'; id: number }
  | { do: 'release'; id: number }
  | { do: 'ask'; id: number; url: string };

export type GateReport =
  | { said: 'ready' }
  | { said: 'passing'; way: Way; label: string }
  | { said: 'held'; id: number }
  | { said: 'answer'; id: number; answer: unknown };

/** One message that is to be held, or is. */
export interface Held {
  /** It is held now. */
  readonly reached: Promise<void>;
  readonly isReached: boolean;
  /** It goes on its way; what has not come yet is not held any more. */
  release(): void;
}

const KEPT = 400;
/** What says nothing of a step. */
const DULL = new Set(['ping', 'pong', 'ack', 'progress']);

export class Gate {
  readonly of: string;
  readonly #child: ChildProcess;
  readonly #reached = new Map<number, () => void>();
  readonly #answers = new Map<number, (answer: unknown) => void>();
  readonly #seen: string[] = [];
  #orders = 0;

  private constructor(of: string, child: ChildProcess) {
    this.of = of;
    this.#child = child;
  }

  static besideAgent(spot: Spot, setting: GateSetting): Promise<Gate> {
    return Gate.#open(spot, 'gate-process.js', setting);
  }

  static besideCoordinator(spot: Spot, setting: StateGateSetting): Promise<Gate> {
    return Gate.#open(spot, 'state-gate-process.js', setting);
  }

  static async #open(spot: Spot, name: string, setting: object): Promise<Gate> {
    const program = path.join(repositoryRoot, 'dist/test/cells', name);
    const [first, ...rest] = [...spot.entrance, process.execPath, program, JSON.stringify(setting)];
    const child = spawn(first!, rest, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, PATH: searchPath },
    });
    const gate = new Gate(spot.name, child);
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the gate of ${spot.name} ended: ${code}`)));
      child.on('message', (report: GateReport) => {
        if (report.said === 'ready') resolve();
        else gate.#report(report);
      });
    });
    return gate;
  }

  /** What has passed, the last one last: for people who look for what went wrong. */
  get story(): string {
    return this.#seen.join('\n');
  }

  /** How often a message of this label has come. */
  passed(label: string): number {
    return this.#seen.filter((line) => line.endsWith(` ${label}`)).length;
  }

  /** The next message of this label. */
  hold(label: string): Held {
    const id = ++this.#orders;
    let isReached = false;
    const reached = new Promise<void>((resolve) => {
      this.#reached.set(id, () => {
        isReached = true;
        resolve();
      });
    });
    this.#order({ do: 'hold', id, label });
    return {
      reached,
      get isReached() {
        return isReached;
      },
      release: () => {
        this.#order({ do: 'forget', id });
        this.#order({ do: 'release', id });
      },
    };
  }

  /** Null: nobody has answered there. */
  ask(url: string): Promise<unknown> {
    const id = ++this.#orders;
    return new Promise((resolve) => {
      this.#answers.set(id, resolve);
      this.#order({ do: 'ask', id, url });
    });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }

  #order(order: GateOrder): void {
    if (this.#child.connected) this.#child.send(order);
  }

  #report(report: Exclude<GateReport, { said: 'ready' }>): void {
    if (report.said === 'held') this.#reached.get(report.id)?.();
    if (report.said === 'answer') this.#answers.get(report.id)?.(report.answer);
    if (report.said !== 'passing' || DULL.has(report.label)) return;
    const arrow = report.way === 'to-coordinator' ? '←' : '→';
    this.#seen.push(`${new Date().toISOString().slice(11, 23)} ${this.of} ${arrow} ${report.label}`);
    if (this.#seen.length > KEPT) this.#seen.shift();
  }
}
