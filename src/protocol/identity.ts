// Who a peer is, from its certificate: one name of the form `cellblock://cell/CELL/host/HOST` among the URIs of its subjectAltName.
//
// Invariant: a certificate that names nobody, or two, names nobody. Whether it is to be trusted is for TLS to say, before this is asked.

import { hostOfUri } from '../model/cell/names.js';

export interface Identity {
  host: string;
  cell: string;
}

/** The name that stands in the certificate of a host. */
export function identityUri({ host, cell }: Identity): string {
  return `cellblock://cell/${cell}/host/${host}`;
}

/** `subjectAltName` as node:crypto and node:tls print it. */
export function identityOf(subjectAltName: string | undefined): Identity | null {
  const named = entriesOf(subjectAltName ?? '').filter((entry) => entry.startsWith('URI:cellblock://'));
  if (named.length !== 1) return null;
  return hostOfUri(named[0]!.slice('URI:'.length));
}

/** An entry that could be mistaken for several is quoted, as JSON, behind its kind: it is none of ours. */
function entriesOf(text: string): string[] {
  const entries: string[] = [];
  const entry = /([A-Za-z ]+:(?:"(?:[^"\\]|\\.)*"|[^,"]*))(?:, |$)/y;
  for (let match = entry.exec(text); match; match = entry.exec(text)) entries.push(match[1]!);
  return entries;
}
