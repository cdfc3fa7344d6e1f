// Every key of the configuration file: its type, default, limits and meaning. This one schema checks the file, types what is
// read from it and makes docs/configuration.md. All keys are optional; units are part of the name.

import { type Static, type TSchema, type TUnsafe, Type } from '@sinclair/typebox';
import { PLACE_NAME_PATTERN } from '../model/cell/names.js';

/** A byte quantity as written in the file: a number of bytes, or a number with K, M, G or T (binary). */
const SIZE_PATTERN = '^[0-9]+(\\.[0-9]+)?\\s*([KMGT](i?B)?|B)?$';

/** `minimum` and `maximum`: sizes, both allowed; compared when the file is read, as the pattern of a text knows no order. */
function size(description: string, limits: { minimum: string; maximum: string; default: string }) {
  return Type.Union([Type.Integer({ minimum: 0 }), Type.String({ pattern: SIZE_PATTERN })], {
    description,
    default: limits.default,
    sizes: [limits.minimum, limits.maximum],
    allowed: `a size from ${limits.minimum} to ${limits.maximum}, such as 512M or a number of bytes`,
  });
}

const FACTORS: Record<string, bigint> = { '': 1n, K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

/** A size the schema has let through; unlike the size of a volume it may be 0. */
export function bytesOfSize(size: number | string): bigint {
  const [, whole = '0', fraction = '', unit = ''] = /^(\d+)(?:\.(\d+))?\s*([KMGT]?)/.exec(String(size)) ?? [];
  const factor = FACTORS[unit] ?? 1n;
  return BigInt(whole) * factor + (BigInt(fraction || '0') * factor) / 10n ** BigInt(fraction.length);
}

function mode(description: string) {
  return Type.String({
    pattern: '^0?[0-7]{3}$',
    description,
    default: '0660',
    allowed: 'an octal mode in quotes such as "0660"',
  });
}

function count(description: string, limits: { minimum: number; maximum: number; default: number }) {
  return Type.Integer({
    description,
    ...limits,
    allowed: `a whole number from ${limits.minimum} to ${limits.maximum}`,
  });
}

function oneOf<const Values extends readonly string[]>(
  values: Values,
  description: string,
  fallback: Values[number],
) {
  const literals = values.map((value) => Type.Literal(value));
  return Type.Union(literals, {
    description,
    default: fallback,
    allowed: `one of ${values.join(', ')}`,
  }) as unknown as TUnsafe<Values[number]>;
}

function flag(description: string) {
  return Type.Boolean({ description, default: false, allowed: 'true or false' });
}

const ADDRESS_PATTERN = '^(unix:.+|tcp:.+:[0-9]{1,5})$';
const ADDRESS_ALLOWED = 'unix:PATH or tcp:HOST:PORT';

const Address = Type.String({ pattern: ADDRESS_PATTERN, allowed: ADDRESS_ALLOWED });

const Listener = Type.Union(
  [
    Address,
    group({
      address: Type.String({
        pattern: ADDRESS_PATTERN,
        description: 'Where to listen.',
        allowed: ADDRESS_ALLOWED,
      }),
      mode: mode('Mode of a unix socket.'),
    }),
  ],
  { allowed: 'unix:PATH, tcp:HOST:PORT, or a mapping with the keys address and mode' },
);

function file(description: string) {
  return Type.String({ minLength: 1, description, allowed: 'a path' });
}

function placeName(description: string) {
  return Type.String({
    pattern: PLACE_NAME_PATTERN,
    description,
    allowed: 'up to 63 letters, digits, dots, underscores and hyphens, the first a letter or digit',
  });
}

const CoordinatorSection = group({
  addresses: Type.Array(
    Type.String({ pattern: '^wss?://.+', allowed: 'wss://HOST:PORT (or ws://HOST:PORT on loopback)' }),
    {
      minItems: 1,
      description:
        'Where coordinators are; the one that leads is found. Without this key the host is in no cell, and none of the others may be set.',
      allowed: 'a list of wss://HOST:PORT',
    },
  ),
  host: placeName(
    'Name of this host, one in the whole installation. Its certificate or token has to say the same.',
  ),
  cell: placeName('The cell it belongs to. Its certificate or token has to say the same.'),
  tls: group({
    ca: file('PEM: who signs the certificates of coordinators.'),
    certificate: file(
      'PEM: the certificate of this host, with the URI cellblock://cell/CELL/host/HOST in its subjectAltName.',
    ),
    key: file('PEM: the private key of that certificate.'),
  }),
  token_file: file(
    'In place of a certificate of its own: a file that holds the token of this host. For tests and single machines.',
  ),
  serve_alone_after: Type.Union([Type.Integer({ minimum: 0, maximum: 86_400 }), Type.Literal('never')], {
    description:
      'Seconds. After a start volumes of cells are served when a coordinator has answered, or after this without one. never: not without one.',
    default: 30,
    allowed: 'a whole number from 0 to 86400, or never',
  }),
  announce: Type.Array(Address, {
    maxItems: 16,
    description:
      'Where other hosts reach the volumes of this one, to copy them. Default: the addresses of `nbd.listen` as they are bound.',
    allowed: 'a list of unix:PATH or tcp:HOST:PORT',
  }),
  copy_rate: size(
    'Bytes a second that copies from other hosts may bring together. 0: as many as there are.',
    {
      minimum: '0',
      maximum: '1T',
      default: '0',
    },
  ),
});

const TlsSection = group({
  mode: oneOf(
    ['off', 'selective', 'forced'],
    'off: no TLS. selective: clients may use it, and have to for the volumes of `only`. forced: nothing is served without it, and TCP beyond loopback is allowed.',
    'off',
  ),
  certificate: file('PEM: the certificate of this server, then those that lead to its root.'),
  key: file('PEM: the private key of that certificate, without passphrase.'),
  clients: oneOf(
    ['none', 'optional', 'required'],
    'Certificates of clients: not asked for, looked at when shown, or demanded (a pre-shared key takes its place).',
    'none',
  ),
  client_ca: file('PEM: who signs the certificates of clients.'),
  psk: file("Pre-shared keys, lines NAME:HEXKEY as GnuTLS's `psktool` writes them."),
  only: Type.Array(Type.String({ minLength: 1 }), {
    description:
      'Names of volumes that are neither listed nor served in clear, their snapshots included; `*` stands for anything.',
    default: [],
    allowed: 'a list of names',
  }),
});

export const ConfigurationSchema = group({
  nbd: group({
    listen: Type.Array(Listener, {
      description: 'Where volumes are served. `--nbd` on the command line takes the place of this list.',
      default: ['unix:/run/cellblock/nbd.sock'],
      allowed: 'a list of addresses',
    }),
    allow_remote: flag(
      'Listen on TCP addresses other than loopback although TLS is not forced, as `--allow-remote-without-tls` does. Whoever reaches the port can read and write every volume that is served in clear and has no access list.',
    ),
    default_export: Type.String({
      minLength: 1,
      description:
        'VOLUME or VOLUME@SNAPSHOT for clients that ask for no name. `--default-export` takes its place. Default: they are refused.',
      allowed: 'the name of a volume or snapshot',
    }),
    max_connections_per_client: count(
      'The same for each user (of unix sockets) and each address (of TCP). 0: no limit of its own.',
      { minimum: 0, maximum: 65535, default: 0 },
    ),
    max_connections: count('Connections served at a time; more are refused.', {
      minimum: 1,
      maximum: 65535,
      default: 4096,
    }),
    handshake_timeout_ms: count('A client that has not opened an export after this is dropped.', {
      minimum: 100,
      maximum: 600_000,
      default: 10_000,
    }),
    tls: TlsSection,
    transaction_logs: Type.String({
      minLength: 1,
      description:
        'Directory for transaction logs of volumes (`cellblock volume set --transaction-log`), best on another file system than the store. Default: none, and no volume may have one.',
      allowed: 'a path',
    }),
  }),
  api: group({
    path: Type.String({
      minLength: 1,
      description: 'Unix socket of the control API. `--api` on the command line takes its place.',
      default: '/run/cellblock/api.sock',
      allowed: 'a path',
    }),
    mode: mode('Mode of the socket.'),
    group: Type.String({
      minLength: 1,
      description: 'Group that owns the socket; ignored where it does not exist.',
      default: 'cellblock',
      allowed: 'the name of a group',
    }),
  }),
  metrics: group({
    listen: Type.String({
      pattern: '^tcp:.+:[0-9]{1,5}$',
      description: 'Serve `/metrics` here as well, for Prometheus. Default: only on the API socket.',
      allowed: 'tcp:HOST:PORT',
    }),
  }),
  log: group({
    level: oneOf(['error', 'warn', 'info', 'debug'], 'The least severe events to log.', 'info'),
  }),
  store: group({
    window: oneOf(
      ['64K', '128K', '256K', '512K', '1M', '2M', '4M'],
      'Unit of mapping of a store that is made now. Fixed afterwards.',
      '2M',
    ),
    journal: size(
      'Size of the journal of a store that is made now, rounded down to a power of two. Fixed afterwards.',
      { minimum: '64K', maximum: '1G', default: '64M' },
    ),
    cache: size('Memory for resident windows of all volumes together.', {
      minimum: '0',
      maximum: '1T',
      default: '64M',
    }),
    reserve: size('New space is refused to volumes (ENOSPC) when the file system has less free than this.', {
      minimum: '0',
      maximum: '1024T',
      default: '256M',
    }),
    direct: flag('Go past the page cache (O_DIRECT).'),
    rotational: flag(
      'The disks below the store rotate. Clients are told so, and may order what they read and write by place.',
    ),
    round_after_ms: count('Changes reach the metadata database at the latest after this.', {
      minimum: 100,
      maximum: 60_000,
      default: 5000,
    }),
  }),
  engine: group({
    kind: oneOf(
      ['automatic', 'io_uring', 'workers'],
      'How blocking disk work is done. automatic: io_uring where the kernel allows it.',
      'automatic',
    ),
    reactors: count('Threads that serve clients. 0: one for each core, at most 4.', {
      minimum: 0,
      maximum: 64,
      default: 0,
    }),
  }),
  coordinator: CoordinatorSection,
  limits: group({
    stop_deadline_ms: count(
      'A stop waits this long for requests in flight, and 5 s more for the last changes to reach the metadata.',
      {
        minimum: 0,
        maximum: 600_000,
        default: 10_000,
      },
    ),
    hold_ms: count(
      'A sync holds connected clients at most so long, else it is undone. Below the time after which clients give up.',
      { minimum: 100, maximum: 300_000, default: 5000 },
    ),
    request_body: size('Largest body of a control API request.', {
      minimum: '0',
      maximum: '1G',
      default: '1M',
    }),
  }),
});

export type ConfigurationFile = Static<typeof ConfigurationSchema>;

/** A mapping of the file: every key optional, no others. */
function group<Properties extends Record<string, TSchema>>(properties: Properties) {
  return Type.Partial(Type.Object(properties), {
    additionalProperties: false,
    allowed: `a mapping with the keys ${Object.keys(properties).join(', ')}`,
  });
}
