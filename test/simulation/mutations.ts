// Rules of the product, broken on purpose: the simulation has to find each of them out. The text of a module is changed while it is loaded;
// nothing is built for it, and nothing in the product knows of it.

import { register } from 'node:module';

export interface Mutation {
  what: string;
  /** Of the compiled module. */
  module: string;
  find: string;
  put: string;
}

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  'epoch-not-raised': {
    what: 'a finished move activates the copy under the epoch that its source has',
    module: 'src/model/cell/host-record.js',
    find: "if (epoch <= record.epoch)\n            return staleEpoch(record, epoch);\n        if (record.state === 'SEALED' && record.released !== null)",
    put: "epoch -= 1; if (record.state === 'SEALED' && record.released !== null)",
  },
  'release-skipped': {
    what: 'a sealed cell that has released the volume is opened again',
    module: 'src/model/cell/guards.js',
    find: 'if (released !== null)\n            return fails(`it has released the volume to epoch ${released}`',
    put: 'if (false)\n            return fails(`it has released the volume to epoch ${released}`',
  },
  'gate-left-open': {
    what: 'clients are let in to a volume that another host owns',
    module: 'src/operations/cells/gate.js',
    find: 'if (!isOwner(lineage.record))',
    put: 'if (false)',
  },
  'served-after-seal': {
    what: 'connections of a volume that was sealed go on writing',
    module: 'src/operations/cells/closing.js',
    find: 'this.#sendAway(container, device);',
    put: ';',
  },
  'backup-believed': {
    what: 'a host that comes back from a backup is believed',
    module: 'src/coordinator/admission.js',
    find: 'const regressed = because !== null;',
    put: 'const regressed = false;',
  },
  'operation-forgotten': {
    what: 'an operation that may have been written down is left to whoever leads next',
    module: 'src/coordinator/operations.js',
    find: 'if (mayBeStored(error))\n                this.#remember(record);',
    put: '',
  },
};

/** From now on modules are loaded so. */
export function breakRule(name: string): void {
  const mutation = MUTATIONS[name];
  if (!mutation) throw new Error(`${name} is none of ${Object.keys(MUTATIONS)}`);
  register('./mutating-loader.js', { parentURL: import.meta.url, data: mutation });
}
