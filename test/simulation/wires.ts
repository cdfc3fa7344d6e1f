// WebSockets of the simulated network: what src/protocol uses of one, over two lanes.

import { EventEmitter } from 'node:events';

import type { Wire } from '../../src/protocol/socket.js';
import type { Lane, Network, Party } from './network.js';
import type { Process, Scheduler } from './scheduler.js';

const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3];
const ABNORMAL = 1006;

/** One end. */
export class SimWire extends EventEmitter {
  readonly process: Process;
  readyState = CONNECTING;
  readonly bufferedAmount = 0;
  isPaused = false;
  peer: SimWire | null = null;
  lane: Lane | null = null;
  readonly #scheduler: Scheduler;
  readonly #waiting: string[] = [];

  constructor(scheduler: Scheduler, process: Process) {
    super();
    this.#scheduler = scheduler;
    this.process = process;
    // A connection that fails tells so by an event, whoever listens.
    this.on('error', () => undefined);
  }

  opened(): void {
    if (this.readyState !== CONNECTING) return;
    this.readyState = OPEN;
    this.emit('open');
  }

  send(text: string): void {
    if (this.readyState === OPEN && !this.process.isDead) this.#toPeer((peer) => peer.#came(text));
  }

  pong(): void {}

  close(code: number): void {
    if (this.readyState >= CLOSING) return;
    if (this.readyState === CONNECTING) {
      this.terminate();
      return;
    }
    this.readyState = CLOSING;
    this.#toPeer((peer) => peer.#closedByPeer(code));
  }

  /** The peer hears of it, if it can be reached at all. */
  terminate(): void {
    if (this.readyState === CLOSED) return;
    this.#toPeer((peer) => peer.fail());
    this.fail();
  }

  /** The connection is gone, as this end sees it. */
  fail(code = ABNORMAL): void {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.peer?.lane?.end();
    this.#scheduler.after(0, () => this.emit('close', code), this.process);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    for (const text of this.#waiting.splice(0)) this.#came(text);
  }

  #came(text: string): void {
    if (this.readyState === CLOSED) return;
    if (this.isPaused) this.#waiting.push(text);
    else this.emit('message', Buffer.from(text), false);
  }

  #closedByPeer(code: number): void {
    if (this.readyState === OPEN) this.#toPeer((peer) => peer.fail(code));
    this.fail(code);
  }

  #toPeer(arrive: (peer: SimWire) => void): void {
    const { peer } = this;
    if (peer && this.lane) this.lane.send(peer.process, () => arrive(peer));
  }
}

/** Every WebSocket there is, and what becomes of it when processes die. */
export class Wires {
  readonly #scheduler: Scheduler;
  readonly #network: Network;
  readonly #open = new Set<{ ends: [string, string]; wires: [SimWire, SimWire] }>();

  constructor(scheduler: Scheduler, network: Network) {
    this.#scheduler = scheduler;
    this.#network = network;
  }

  /** `accept` is called with the other end, in the process that answers. */
  dial(from: Party, to: Party, accept: (wire: Wire) => void): Wire {
    const near = new SimWire(this.#scheduler, from.process!);
    const there = this.#network.lane(from.name, to.name);
    near.lane = there;
    // The machine answers even when no process does.
    there.send(this.#scheduler.world, () => this.#arrived(near, { from, to }, accept));
    return near as unknown as Wire;
  }

  #arrived(near: SimWire, { from, to }: { from: Party; to: Party }, accept: (wire: Wire) => void): void {
    const back = this.#network.lane(to.name, from.name);
    if (near.readyState === CLOSED || to.isOff) return;
    if (!to.process) {
      back.send(near.process, () => {
        near.emit('error', Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
        near.fail();
      });
      return;
    }
    const far = new SimWire(this.#scheduler, to.process);
    far.lane = back;
    far.peer = near;
    near.peer = far;
    far.readyState = OPEN;
    const pair = { ends: [from.name, to.name] as [string, string], wires: [near, far] as [SimWire, SimWire] };
    this.#open.add(pair);
    for (const wire of pair.wires) wire.on('close', () => this.#forget(pair));
    this.#scheduler.after(0, () => accept(far as unknown as Wire), to.process);
    back.send(near.process, () => near.opened());
  }

  #forget(pair: { ends: [string, string]; wires: [SimWire, SimWire] }): void {
    if (pair.wires.every(({ readyState, process }) => readyState === CLOSED || process.isDead))
      this.#open.delete(pair);
  }

  /** `silently`: its machine is off, so nobody says that the connections are gone. */
  died(process: Process, how: 'silently' | 'told'): void {
    for (const { wires } of this.#open) {
      const index = wires.findIndex((wire) => wire.process === process);
      if (index < 0) continue;
      const [mine, other] = [wires[index]!, wires[1 - index]!];
      mine.readyState = CLOSED;
      if (how === 'told') mine.lane?.send(other.process, () => other.fail());
      else mine.lane?.end();
    }
  }

  /** Connections between the two end; `half`: only the one who dialled sees it. */
  breakBetween(a: string, b: string, how: 'both' | 'half'): void {
    for (const { ends, wires } of [...this.#open]) {
      if (!ends.includes(a) || !ends.includes(b)) continue;
      const [near, far] = wires;
      near.lane?.end();
      far.lane?.end();
      near.fail();
      if (how === 'both') far.fail();
    }
  }
}
