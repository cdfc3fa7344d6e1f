// Where a coordinator keeps its state, opened as its command line says: the store and who leads, which belong together.

import { readFileSync } from 'node:fs';
import { CellblockError, systemCode } from '../base/errors.js';
import type { Log } from '../protocol/log.js';
import type { Clock } from '../protocol/timing.js';
import type { CoordinatorSettings, StateSettings } from './command-line.js';
import { EtcdClient } from './etcd-client.js';
import { EtcdKeys } from './etcd-keys.js';
import { EtcdLeadership } from './etcd-leadership.js';
import { EtcdStore } from './etcd-store.js';
import { LevelStore } from './level-store.js';
import { readPemDirectory } from './pem-directory.js';
import { SoleLeadership } from './sole-leadership.js';
import type { CoordinatorStore, Leadership } from './store.js';

export interface OpenState {
  store: CoordinatorStore;
  leadership: Leadership;
  /** Competes for leadership from now on: when whoever decides is ready. */
  start(): void;
  /** Gives leadership back first. */
  close(): Promise<void>;
}

/** Throws what the stores throw when they are opened, `tls-invalid`, `option-invalid`. */
export async function openState(
  { name, address, state }: Pick<CoordinatorSettings, 'name' | 'address' | 'state'>,
  { clock, log }: { clock: Clock; log: Log },
): Promise<OpenState> {
  const self = { coordinator: name, address };
  if (state.kind === 'directory') {
    const store = await LevelStore.open(state.directory);
    const leadership = new SoleLeadership(self);
    return { store, leadership, start() {}, close: () => closeAll(leadership, store, () => undefined) };
  }
  const client = new EtcdClient(connectionOf(state, log));
  const keys = new EtcdKeys(state.prefix);
  const leadership = new EtcdLeadership({ self, client, keys, clock, log });
  try {
    const store = await EtcdStore.open(client, keys, leadership);
    const close = () => closeAll(leadership, store, () => client.close());
    return { store, leadership, start: () => leadership.start(), close };
  } catch (error) {
    client.close();
    throw error;
  }
}

async function closeAll(leadership: Leadership, store: CoordinatorStore, end: () => void): Promise<void> {
  await leadership.close();
  await store.close();
  end();
}

function connectionOf({ endpoints, tls, user }: Extract<StateSettings, { kind: 'etcd' }>, log: Log) {
  if (tls === null) return { endpoints, user: user === null ? null : readUser(user) };
  const { ca, certificate, key, warnings } = readPemDirectory(tls, { needsCa: true });
  for (const warning of warnings) log.warn({}, warning);
  return { endpoints, tls: { ca: ca!, certificate, key }, user: user === null ? null : readUser(user) };
}

function readUser(file: string): { name: string; password: string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw wrongUser(`The file ${file} cannot be read: ${systemCode(error)}.`);
  }
  const [, name, password] = /^([^:\n]+):([^\n]+)$/.exec(text) ?? [];
  if (name === undefined || password === undefined)
    throw wrongUser(`The file ${file} does not hold NAME:PASSWORD.`);
  return { name, password };
}

function wrongUser(message: string): CellblockError {
  return new CellblockError('option-invalid', message, {
    hint: 'Give --etcd-user a file with one line NAME:PASSWORD.',
  });
}
