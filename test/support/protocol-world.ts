// The machines of one coordinator and of hosts, joined by wires that a test lets carry, cut or forget. Nothing moves by itself.

import type { Admission, CoordinatorEffect } from '../../src/protocol/coordinator-effects.js';
import { CoordinatorMachine } from '../../src/protocol/coordinator-machine.js';
import type { LogEvent, Told } from '../../src/protocol/effects.js';
import { type HelloFacts, type HostEffect, HostMachine } from '../../src/protocol/host-machine.js';
import { TIMES } from '../../src/protocol/limits.js';
import type { Body, Reply, Request, RequestBody, TellBody } from '../../src/protocol/messages.js';
import { factsOf, idOf } from './protocol-samples.js';

/** A connection: what either side has sent and the other has not received. */
interface Wire {
  id: number;
  toHost: string[];
  toCoordinator: string[];
  /** By which code the coordinator has closed it. */
  closed: string | null;
}

interface Seen {
  requests: Request[];
  settled: { id: string; reply: Reply | null }[];
  told: Told[];
  logs: LogEvent[];
}

const nothingSeen = (): Seen => ({ requests: [], settled: [], told: [], logs: [] });

export const ADMITTED: Admission = { admit: true, regressed: false, leader: null, highest: [] };

export class WorldHost {
  readonly name: string;
  readonly seen = nothingSeen();
  readonly world: ProtocolWorld;
  machine = new HostMachine();
  wire: Wire | null = null;
  /** Codes it was refused with. */
  refusals: string[] = [];
  /** Why sessions have ended. */
  ended: string[] = [];
  resumed: boolean[] = [];

  constructor(world: ProtocolWorld, name: string) {
    this.world = world;
    this.name = name;
  }

  /** A new connection, and hello. */
  connect(more: Partial<HelloFacts> = {}, identity = { host: this.name, cell: 'east' }): this {
    this.wire = this.world.open(identity);
    this.run(this.machine.opened(factsOf(this.name, more), this.world.now));
    return this;
  }

  /** The connection is gone; each side sees it, unless only one does. */
  cut(who: 'both' | 'host' = 'both'): void {
    const { wire } = this;
    this.wire = null;
    this.run(this.machine.closed());
    if (wire && who === 'both') this.world.run(this.world.machine.closed(wire.id, this.world.now));
  }

  call(number: number, timeoutMs = 1_000_000): void {
    const request: RequestBody = {
      type: 'call',
      id: idOf(number),
      call: { verb: 'move-status', arguments: { volume: `v${number}` } },
    };
    this.run(this.machine.request(request, timeoutMs, this.world.now));
  }

  tell(told: TellBody): void {
    this.run(this.machine.tell(told));
  }

  run(effects: readonly HostEffect[]): void {
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: HostEffect): void {
    switch (effect.do) {
      case 'send':
        this.wire?.toCoordinator.push(effect.text);
        break;
      case 'close':
        if (this.wire) this.world.hangUp(this.wire);
        this.wire = null;
        break;
      case 'welcomed':
        this.resumed.push(effect.welcome.resumed);
        break;
      case 'refused':
        this.refusals.push(effect.refused.code);
        break;
      case 'ended':
        this.ended.push(effect.because);
        break;
      case 'request':
        this.seen.requests.push(effect.request);
        break;
      case 'settle':
        this.seen.settled.push({ id: effect.id, reply: effect.reply });
        break;
      case 'told':
        this.seen.told.push(effect.told);
        break;
      case 'log':
        this.seen.logs.push(effect);
        break;
    }
  }
}

export class ProtocolWorld {
  #ids = 0x1000;
  readonly machine = new CoordinatorMachine({ coordinator: 'c1', freshId: () => idOf(++this.#ids) });
  readonly hosts: WorldHost[] = [];
  readonly wires = new Map<number, Wire>();
  readonly seen = nothingSeen();
  now = { clockMs: 1_800_000_000_000, uptimeMs: 1_000 };
  /** What hellos get; null: nothing yet. */
  admission: Admission | null = ADMITTED;
  admitting: number[] = [];
  /** Hosts as they joined and left. */
  comings: string[] = [];

  host(name: string): WorldHost {
    const host = new WorldHost(this, name);
    this.hosts.push(host);
    return host;
  }

  /** A connection of somebody. */
  open(identity: { host: string; cell: string } | null): Wire {
    const wire: Wire = { id: this.wires.size + 1, toHost: [], toCoordinator: [], closed: null };
    this.wires.set(wire.id, wire);
    this.run(this.machine.opened(wire.id, identity, this.now));
    return wire;
  }

  /** The other side has closed it. */
  hangUp(wire: Wire): void {
    this.#deliverTo(wire);
    this.run(this.machine.closed(wire.id, this.now));
  }

  /** Raw text from somebody. */
  text(wire: Wire, text: string): void {
    this.run(this.machine.text(wire.id, text, this.now));
  }

  ask(host: string, number: number, timeoutMs = 1_000_000): void {
    this.run(
      this.machine.request(
        host,
        { type: 'probe', id: idOf(number), volume: idOf(0xa), seqs: [] },
        timeoutMs,
        this.now,
      ),
    );
  }

  reply(host: string, number: number, value: unknown): void {
    this.run(
      this.machine.reply(
        host,
        { type: 'result', id: idOf(number), value } as Body & { type: 'result' },
        this.now,
      ),
    );
  }

  /** Everything that is under way arrives, and what follows from it. */
  settle(): void {
    for (;;) {
      const busy = this.hosts.filter(
        ({ wire }) => wire && (wire.toHost.length > 0 || wire.toCoordinator.length > 0),
      );
      if (busy.length === 0) return;
      for (const host of busy) this.carry(host);
    }
  }

  /** What is on the wire of a host arrives; `texts` of it at most in each direction. */
  carry(host: WorldHost, texts = Number.POSITIVE_INFINITY): void {
    const { wire } = host;
    if (!wire) return;
    for (const text of wire.toCoordinator.splice(0, texts))
      this.run(this.machine.text(wire.id, text, this.now));
    for (const text of wire.toHost.splice(0, texts))
      if (host.wire === wire) host.run(host.machine.text(text, this.now));
    if (wire.closed === null || host.wire !== wire) return;
    host.wire = null;
    host.run(host.machine.closed());
  }

  /** Time passes, with a tick of everybody after each step. `settling`: and everything arrives. */
  pass(milliseconds: number, { settling = true, stepMs = TIMES.tickMs as number } = {}): void {
    for (let left = milliseconds; left > 0; left -= stepMs) {
      const step = Math.min(stepMs, left);
      this.now = { clockMs: this.now.clockMs + step, uptimeMs: this.now.uptimeMs + step };
      this.run(this.machine.tick(this.now));
      for (const host of this.hosts) host.run(host.machine.tick(this.now));
      if (settling) this.settle();
    }
  }

  run(effects: readonly CoordinatorEffect[]): void {
    for (const effect of effects) this.#carryOut(effect);
  }

  #deliverTo(wire: Wire): void {
    for (const text of wire.toCoordinator.splice(0)) this.run(this.machine.text(wire.id, text, this.now));
  }

  #carryOut(effect: CoordinatorEffect): void {
    switch (effect.do) {
      case 'send':
        this.wires.get(effect.connection)!.toHost.push(effect.text);
        break;
      case 'close':
        this.wires.get(effect.connection)!.closed = effect.reason;
        break;
      case 'admit':
        if (this.admission) this.run(this.machine.admitted(effect.connection, this.admission, this.now));
        else this.admitting.push(effect.connection);
        break;
      case 'joined':
        this.comings.push(`${effect.host} ${effect.resumed ? 'resumed' : 'joined'}`);
        break;
      case 'lost':
        this.comings.push(`${effect.host} lost`);
        break;
      case 'left':
        this.comings.push(`${effect.host} left`);
        break;
      case 'request':
        this.seen.requests.push(effect.request);
        break;
      case 'settle':
        this.seen.settled.push({ id: effect.id, reply: effect.reply });
        break;
      case 'told':
        this.seen.told.push(effect.told);
        break;
      case 'log':
        this.seen.logs.push(effect);
        break;
    }
  }
}
