// Addresses of NBD servers as this project writes them everywhere: `unix:PATH` and `tcp:HOST:PORT`.

import type { NetConnectOpts } from 'node:net';

/** What node:net needs to reach an address. Throws a TypeError that says what an address looks like. */
export function connectOptions(address: string): NetConnectOpts {
  if (address.startsWith('unix:') && address.length > 5) return { path: address.slice(5) };
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  if (tcp !== null) {
    const port = Number(tcp[3]);
    if (port > 0 && port < 65536) return { host: tcp[1] ?? tcp[2] ?? '', port };
  }
  throw new TypeError(`"${address}" is not an NBD address; write unix:PATH or tcp:HOST:PORT`);
}

/** The address as an NBD URI, which libnbd and QEMU take. */
export function nbdUri(address: string, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if (address.startsWith('unix:')) return `nbd+unix:///${name}?socket=${encodeURI(address.slice(5))}`;
  return `nbd://${address.slice(4)}/${name}`;
}
