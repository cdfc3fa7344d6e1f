// A network of one machine: a namespace for every party, joined by a bridge in a namespace of its own, so nothing of it is seen by this machine's
// network. A party can be unplugged, and two of them made deaf to one another; what is cut off hears silence, not errors.
//
// Invariant: names carry the process id of whoever made them. What a process has left that is no more is removed by the next one that begins;
// programs inside end with the process that started them.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { missing, mustNow, searchPath } from './programs.js';

const PREFIX = 'cellblock';
const SUBNET = '10.77.0';
/** Of nobody: what is sent there is gone. */
const NOWHERE = '02:00:00:00:00:00';

let labs = 0;

/** Why there can be no networks here, or false. */
export function noNetworks(): string | false {
  const lacking = missing('ip', 'nsenter', 'setpriv');
  if (lacking) return `${lacking} (Debian: apt-get install iproute2 util-linux)`;
  const name = `${PREFIX}-${process.pid}-try`;
  if (ip(['netns', 'add', name]).status !== 0) return 'this user may not make network namespaces (root may)';
  ip(['netns', 'del', name]);
  return false;
}

/** A place in the network, which programs are started in. */
export class Spot {
  readonly name: string;
  readonly address: string;
  readonly #lab: NetworkLab;

  constructor(lab: NetworkLab, name: string, address: string) {
    this.#lab = lab;
    this.name = name;
    this.address = address;
  }

  /** What has to stand before the words of a program, for it to run here and to end when this process does. */
  get entrance(): string[] {
    return ['nsenter', `--net=${pathOf(this.#lab.namespaceOf(this.name))}`, 'setpriv', '--pdeathsig', 'KILL'];
  }

  unplug(): void {
    this.#lab.plug(this.name, 'down');
  }

  plugIn(): void {
    this.#lab.plug(this.name, 'up');
  }

  /** Nothing gets from one to the other, either way; both reach everybody else. */
  cutFrom(other: Spot): void {
    this.#lab.deafen(this, other);
    this.#lab.deafen(other, this);
  }

  mendTo(other: Spot): void {
    this.#lab.hear(this, other);
    this.#lab.hear(other, this);
  }
}

export class NetworkLab {
  readonly #number = ++labs;
  readonly #spots = new Map<string, Spot>();

  constructor() {
    removeLeftovers();
    const bridge = this.namespaceOf('bridge');
    mustNow('ip', ['netns', 'add', bridge]);
    mustNow('ip', ['-n', bridge, 'link', 'add', 'bridge', 'type', 'bridge', 'forward_delay', '0']);
    mustNow('ip', ['-n', bridge, 'link', 'set', 'bridge', 'up']);
  }

  /** `number`: the last part of its address. */
  add(name: string, number: number): Spot {
    const [own, bridge] = [this.namespaceOf(name), this.namespaceOf('bridge')];
    const spot = new Spot(this, name, `${SUBNET}.${number}`);
    mustNow('ip', ['netns', 'add', own]);
    this.#spots.set(name, spot);
    mustNow('ip', ['-n', own, 'link', 'set', 'lo', 'up']);
    const peer = ['peer', 'name', `to-${name}`, 'netns', bridge];
    mustNow('ip', ['-n', own, 'link', 'add', 'eth0', 'type', 'veth', ...peer]);
    mustNow('ip', ['-n', own, 'address', 'add', `${spot.address}/24`, 'dev', 'eth0']);
    mustNow('ip', ['-n', own, 'link', 'set', 'eth0', 'up']);
    mustNow('ip', ['-n', bridge, 'link', 'set', `to-${name}`, 'master', 'bridge']);
    mustNow('ip', ['-n', bridge, 'link', 'set', `to-${name}`, 'up']);
    return spot;
  }

  namespaceOf(name: string): string {
    return `${PREFIX}-${process.pid}-${this.#number}-${name}`;
  }

  plug(name: string, how: 'up' | 'down'): void {
    mustNow('ip', ['-n', this.namespaceOf('bridge'), 'link', 'set', `to-${name}`, how]);
  }

  /** What `from` sends to `to` goes nowhere; nobody is told. */
  deafen(from: Spot, to: Spot): void {
    const there = ['lladdr', NOWHERE, 'nud', 'permanent', 'dev', 'eth0'];
    mustNow('ip', ['-n', this.namespaceOf(from.name), 'neighbour', 'replace', to.address, ...there]);
  }

  hear(from: Spot, to: Spot): void {
    mustNow('ip', ['-n', this.namespaceOf(from.name), 'neighbour', 'del', to.address, 'dev', 'eth0']);
  }

  /** Programs inside have to be ended before. */
  remove(): void {
    for (const name of [...this.#spots.keys(), 'bridge']) ip(['netns', 'del', this.namespaceOf(name)]);
    this.#spots.clear();
  }
}

/** Of processes that are no more. What runs inside was started by them, and ends. */
function removeLeftovers(): void {
  const { stdout } = ip(['netns', 'list']);
  for (const [, name, pid] of stdout.matchAll(new RegExp(`^(${PREFIX}-(\\d+)-\\S+)`, 'gm'))) {
    if (existsSync(`/proc/${pid}`)) continue;
    for (const inside of ip(['netns', 'pids', name!]).stdout.split('\n'))
      if (inside !== '') process.kill(Number(inside), 'SIGKILL');
    ip(['netns', 'del', name!]);
  }
}

function ip(words: string[]) {
  return spawnSync('ip', words, { encoding: 'utf8', env: { ...process.env, PATH: searchPath } });
}

const pathOf = (namespace: string) => `/run/netns/${namespace}`;
