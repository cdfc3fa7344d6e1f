// What the program of a coordinator is told on its command line, checked: where it listens, who may come, where its state is.

import { hostname } from 'node:os';
import { Command, Option } from 'commander';
import { CellblockError } from '../base/errors.js';
import { isPlaceName } from '../model/cell/names.js';

export interface CoordinatorSettings {
  /** Told apart from other coordinators by it. */
  name: string;
  listen: { host: string; port: number; isTls: boolean };
  /** Where agents are sent when this one leads. */
  address: string;
  /** A directory with cert.pem and key.pem, and, unless hosts come with tokens, ca.pem. Null: in clear, on loopback. */
  tls: string | null;
  /** A file of tokens; null: hosts come with certificates. */
  tokens: string | null;
  state: StateSettings;
}

export type StateSettings =
  | { kind: 'directory'; directory: string }
  | {
      kind: 'etcd';
      endpoints: readonly string[];
      /** Absolute, with a slash at its end. */
      prefix: string;
      /** A directory with ca.pem, cert.pem and key.pem; null: in clear. */
      tls: string | null;
      /** A file with NAME:PASSWORD; null: etcd knows no users. */
      user: string | null;
    };

interface Line {
  listen: string;
  state: string;
  tls?: string;
  token?: string;
  name?: string;
  announce?: string;
  etcdTls?: string;
  etcdUser?: string;
}

const PREFIX = '/cellblock/';

/** To be parsed and then handed to coordinatorSettings(). */
export function coordinatorCommand(version: string): Command {
  return new Command('cellblock-coordinator')
    .description('Decides where volumes are: routes, moves and snapshots over several hosts.')
    .requiredOption(
      '--listen <address>',
      'where agents connect: wss://HOST:PORT; ws:// on a loopback address only',
    )
    .requiredOption(
      '--state <place>',
      'a directory (one coordinator), or etcd://HOST:PORT,HOST:PORT[/PREFIX] (several)',
    )
    .option(
      '--tls <directory>',
      'ca.pem, cert.pem and key.pem: who a host is stands in its certificate; read again at SIGHUP',
    )
    .option('--token <file>', 'lines HOST CELL TOKEN: who a host is says its token; read again at SIGHUP')
    .option('--name <name>', 'of this coordinator, different from all others; else the name of this machine')
    .option('--announce <address>', 'where agents are sent when this one leads; else what it listens on')
    .option('--etcd-tls <directory>', 'ca.pem, cert.pem and key.pem for the connections to etcd')
    .option('--etcd-user <file>', 'NAME:PASSWORD for etcd')
    .addOption(
      new Option('--log-level <level>', 'how much is logged')
        .choices(['error', 'warn', 'info', 'debug'])
        .default('info'),
    )
    .version(version)
    .allowExcessArguments(false)
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
}

/** Throws `address-invalid`, `option-invalid`. */
export function coordinatorSettings(command: Command): CoordinatorSettings {
  const line = command.opts<Line>();
  const listen = parseListen(line.listen);
  requireIdentities(line, listen);
  const name = line.name ?? hostname();
  if (!isPlaceName(name))
    throw invalid(
      `${JSON.stringify(name)} cannot be the name of a coordinator`,
      'Give --name with letters, digits, `.`, `_` and `-`, at most 63.',
    );
  const state = parseState(line);
  const address = line.announce === undefined ? line.listen : announced(line.announce, listen.isTls);
  if (state.kind === 'etcd' && line.announce === undefined && isEverywhere(listen))
    throw invalid(
      `Nobody can be sent to ${line.listen}`,
      'Say with --announce where agents reach this coordinator.',
    );
  return { name, listen, address, tls: line.tls ?? null, tokens: line.token ?? null, state };
}

/** In clear nobody knows who reads along, so tokens go over loopback or TLS only. */
function requireIdentities(
  { listen, tls, token }: Line,
  { host, isTls }: CoordinatorSettings['listen'],
): void {
  if (tls === undefined && token === undefined)
    throw invalid('It is not said who may come', 'Give --tls DIRECTORY, --token FILE, or both.');
  if (isTls && tls === undefined)
    throw invalid(`${listen} needs a certificate`, 'Give --tls DIRECTORY with cert.pem and key.pem.');
  if (!isTls && tls !== undefined)
    throw invalid(`${listen} is in clear, and --tls is given`, 'Write wss://HOST:PORT.');
  if (!isTls && !isLoopback(host))
    throw new CellblockError('address-invalid', `${listen} is reachable from other machines, in clear.`, {
      hint: 'Write wss://HOST:PORT and give --tls DIRECTORY, or listen on 127.0.0.1.',
    });
}

function parseListen(text: string): CoordinatorSettings['listen'] {
  const match = /^(wss?):\/\/(?:\[([0-9A-Fa-f:.]+)\]|([^:/?#[\]@]+)):(\d{1,5})\/?$/.exec(text);
  const port = Number(match?.[4]);
  if (!match || port > 65_535)
    throw new CellblockError('address-invalid', `${JSON.stringify(text)} is no address to listen on.`, {
      hint: 'Write wss://HOST:PORT, or ws://127.0.0.1:PORT.',
    });
  return { host: match[2] ?? match[3]!, port, isTls: match[1] === 'wss' };
}

function announced(text: string, isTls: boolean): string {
  const address = parseListen(text);
  if (isEverywhere(address) || address.port === 0)
    throw invalid(`Nobody can be sent to ${text}`, 'Announce an address that agents reach.');
  // Nobody follows from TLS into the clear.
  if (isTls && !address.isTls)
    throw invalid(`${text} is in clear, and this coordinator is not`, 'Announce wss://HOST:PORT.');
  return text;
}

function parseState({ state, etcdTls, etcdUser }: Line): StateSettings {
  if (!/^[a-z]+:\/\//.test(state)) {
    if (etcdTls !== undefined || etcdUser !== undefined)
      throw invalid(`${state} is a directory, and no etcd`, 'Leave --etcd-tls and --etcd-user away.');
    if (state === '') throw invalid('--state is empty', 'Give a directory, or etcd://HOST:PORT,HOST:PORT.');
    return { kind: 'directory', directory: state };
  }
  const match = /^etcd:\/\/([^/]+)(\/[^?#]*)?$/.exec(state);
  const members = match?.[1]?.split(',') ?? [];
  if (!match || !members.every(isMember))
    throw invalid(
      `${JSON.stringify(state)} is no place for the state`,
      'Write etcd://HOST:PORT,HOST:PORT or a directory.',
    );
  if (new Set(members).size < members.length)
    throw invalid(`${state} names a member of etcd twice`, 'Name each once.');
  const scheme = etcdTls === undefined ? 'http' : 'https';
  const prefix = (match[2] ?? PREFIX).replace(/\/*$/, '/');
  return {
    kind: 'etcd',
    endpoints: members.map((member) => `${scheme}://${member}`),
    prefix: prefix === '/' ? PREFIX : prefix,
    tls: etcdTls ?? null,
    user: etcdUser ?? null,
  };
}

function isMember(text: string): boolean {
  const port = Number(/^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(text)?.[1]);
  return port > 0 && port <= 65_535;
}

function isEverywhere({ host }: { host: string }): boolean {
  return host === '0.0.0.0' || host === '::';
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function invalid(message: string, hint: string): CellblockError {
  return new CellblockError('option-invalid', `${message}.`, { hint });
}
