// The versions of the protocol between agents and a coordinator. Both sides name all they speak as WebSocket subprotocols; the coordinator
// picks the highest that both do.
//
// Invariant: what a version says never changes once it is released. Its schemas lie in history/N.json; a schema that differs from the
// newest of them needs a new version (a test holds this).

/** What each version brought, oldest first; the last one is what the schemas of today say. Append only. */
export const VERSION_CHANGES: readonly string[] = [
  'Hello, welcome and refused; probes, claims, commands, operations, descriptions, pulls, digests, group snapshots, calls and their answers; progress and events; heartbeats with both clocks.',
];

export const PROTOCOL_VERSION = VERSION_CHANGES.length;

/** Newest first. */
export const SPOKEN_VERSIONS: readonly number[] = [PROTOCOL_VERSION];

export function subprotocolOf(version: number): string {
  return `cellblock.v${version}`;
}

/** The highest version in both; undefined: none is. */
export function chooseSubprotocol(offered: Iterable<string>): string | undefined {
  const names = new Set(offered);
  return SPOKEN_VERSIONS.map(subprotocolOf).find((name) => names.has(name));
}
