// Stands beside an agent, in its namespace, between it and its coordinators: passes every message on, says which, and holds one back when it is told
// to. A process of its own, because sockets belong to the namespace of their process.
//
// Every message has a label: `command seal`, `perform snapshot`, `event staged`; what answers one is `reply to command seal`.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { WebSocket, WebSocketServer } from 'ws';
import type { GateSetting, Way } from './gate.js';
import { isHeld, obey, tell } from './gate-holds.js';

const PROTOCOL = 'cellblock.v1';

const setting = JSON.parse(process.argv[2]!) as GateSetting;
/** One direction of one connection. What comes behind a message that is held waits too. */
class Lane {
  readonly #way: Way;
  readonly #labelOf: (text: string) => string;
  readonly #send: (text: string) => void;
  #waiting: (() => void)[] | null = null;

  constructor(way: Way, labelOf: (text: string) => string, send: (text: string) => void) {
    this.#way = way;
    this.#labelOf = labelOf;
    this.#send = send;
  }

  pass(text: string): void {
    if (this.#waiting) this.#waiting.push(() => this.pass(text));
    else this.#look(text);
  }

  #look(text: string): void {
    const label = this.#labelOf(text);
    tell({ said: 'passing', way: this.#way, label });
    if (isHeld(label, () => this.#resume())) this.#waiting = [() => this.#send(text)];
    else this.#send(text);
  }

  #resume(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const next of waiting) next();
  }
}

/** Labels of both directions of a connection: answers are told by what they answer. */
class Labels {
  readonly #asked = new Map<string, string>();

  of(text: string): string {
    const message = JSON.parse(text) as Record<string, unknown> & { type: string; id?: string };
    const { type, id } = message;
    const before = id === undefined ? undefined : this.#asked.get(id);
    if (before !== undefined && !isRequest(type)) return `reply to ${before}`;
    const label = [type, detailOf(message)].join(' ').trim();
    if (id !== undefined) this.#asked.set(id, label);
    return label;
  }
}

const isRequest = (type: string) =>
  ['probe', 'command', 'perform', 'claim', 'describe', 'pull', 'digest', 'group', 'load', 'call'].includes(
    type,
  );

function detailOf(message: Record<string, unknown>): string {
  const { command, operation, call, step, name } = message as {
    command?: { do: string };
    operation?: { kind: string };
    call?: { verb: string };
    step?: { do?: string };
    name?: string;
  };
  return command?.do ?? operation?.kind ?? call?.verb ?? step?.do ?? (message.type === 'event' ? name! : '');
}

const tls = {
  ca: readFileSync(setting.ca),
  server: { cert: readFileSync(setting.server.certificate), key: readFileSync(setting.server.key) },
  host: { cert: readFileSync(setting.host.certificate), key: readFileSync(setting.host.key) },
};

/** Coordinators name one another by the addresses they announce; the agent finds them through here. */
function localized(text: string): string {
  return setting.ways.reduce(
    (now, { port, address }) => now.replaceAll(address, `wss://127.0.0.1:${port}`),
    text,
  );
}

function join(near: WebSocket, address: string): void {
  const far = new WebSocket(address, PROTOCOL, { ca: tls.ca, ...tls.host, perMessageDeflate: false });
  const labels = new Labels();
  const early: string[] = [];
  const up = new Lane(
    'to-coordinator',
    (text) => labels.of(text),
    (text) => far.send(text),
  );
  const down = new Lane(
    'to-host',
    (text) => labels.of(text),
    (text) => near.send(localized(text)),
  );
  near.on('message', (bytes) => {
    const text = String(bytes);
    if (far.readyState === WebSocket.CONNECTING) early.push(text);
    else up.pass(text);
  });
  far.on('open', () => {
    for (const text of early) up.pass(text);
  });
  far.on('message', (bytes) => down.pass(String(bytes)));
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on('error', () => other.terminate());
    one.on('close', () => other.terminate());
  }
}

for (const { port, address } of setting.ways) {
  const listener = createServer(tls.server);
  const upgrades = new WebSocketServer({ server: listener, handleProtocols: () => PROTOCOL });
  upgrades.on('connection', (near) => join(near, address));
  await new Promise<void>((resolve) => listener.listen(port, '127.0.0.1', resolve));
}

obey();
