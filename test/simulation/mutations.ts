// Rules of the product, broken on purpose: the simulation has to find each of them out. The text of a module is changed while it is loaded;
// nothing is built for it, and nothing in the product knows of it.

import { register } from 'node:module';

export interface Mutation {
  what: string;
  /** Of the compiled module. */
  module: string;
  find: string;
  put: string;
  /** A seed by which it is found out. */
  seed: number;
}

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  'epoch-not-raised': {
    what: 'a finished move activates the copy under the epoch that its source has',
    module: 'src/model/cell/host-record.js',
    find: "if (epoch <= record.epoch)\n            return staleEpoch(record, epoch);\n        if (record.state === 'SEALED' && record.released !== null)",
    put: "epoch -= 1; if (record.state === 'SEALED' && record.released !== null)",
    seed: 1,
  },
  'release-skipped': {
    what: 'a sealed cell that has released the volume is opened again',
    module: 'src/model/cell/guards.js',
    find: 'if (released !== null)\n            return fails(`it has released the volume to epoch ${released}`',
    put: 'if (false)\n            return fails(`it has released the volume to epoch ${released}`',
    seed: 132,
  },
  'copy-not-complete': {
    what: 'a copy is activated whatever it is complete through',
    module: 'src/model/cell/guards.js',
    find: 'if (!sameHead(through, sealed.sealedHead) || sealed.sealedHead === null)',
    put: 'if (false)',
    seed: 15,
  },
  'answer-before-record': {
    what: 'a snapshot is told before it and its record are durable',
    module: 'src/operations/cells/performing.js',
    find: 'await this.#take([{ wish: { volume: container.name, snapshot: name, id }, before: before, next }], null);',
    put: 'void this.#take([{ wish: { volume: container.name, snapshot: name, id }, before: before, next }], null).catch(() => undefined);',
    seed: 584,
  },
  'group-half-published': {
    what: 'a group is published although a host has not cut its part, or has let its clients go on',
    module: 'src/coordinator/groups.js',
    find: 'if (because === null)',
    put: 'if (true)',
    seed: 77,
  },
  'gate-left-open': {
    what: 'clients are let in to a volume that another host owns',
    module: 'src/operations/cells/gate.js',
    find: 'if (!isOwner(lineage.record))',
    put: 'if (false)',
    seed: 1,
  },
  'served-after-seal': {
    what: 'connections of a volume that was sealed go on writing',
    module: 'src/operations/cells/closing.js',
    find: 'this.#sendAway(container, device);',
    put: ';',
    seed: 1,
  },
  'backup-believed': {
    what: 'a host that comes back from a backup is believed',
    module: 'src/coordinator/admission.js',
    find: 'const regressed = because !== null;',
    put: 'const regressed = false;',
    seed: 32,
  },
  'operation-forgotten': {
    what: 'an operation that may have been written down is left to whoever leads next',
    module: 'src/coordinator/operations.js',
    find: 'if (mayBeStored(error))\n                this.#remember(record);',
    put: '',
    seed: 184,
  },
};

/** From now on modules are loaded so. */
export function breakRule(name: string): void {
  const mutation = MUTATIONS[name];
  if (!mutation) throw new Error(`${name} is none of ${Object.keys(MUTATIONS)}`);
  register('./mutating-loader.js', { parentURL: import.meta.url, data: mutation });
}
