// Names of hosts and cells. A host has one name in the whole installation, whatever its cell.

/** Letters, digits, `.`, `_` and `-`, at most 63: fits a label of DNS, a URI and a line of a text file as it is. */
export const PLACE_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$';

const HOST_URI = /^cellblock:\/\/cell\/([^/]+)\/host\/([^/]+)$/;

const PLACE_NAME = new RegExp(PLACE_NAME_PATTERN);

/** Whether a host or a cell may be called so. */
export function isPlaceName(text: string): boolean {
  return PLACE_NAME.test(text);
}

/** Who `cellblock://cell/CELL/host/HOST` is; null: nobody. */
export function hostOfUri(uri: string): { host: string; cell: string } | null {
  const [, cell, host] = HOST_URI.exec(uri) ?? [];
  if (cell === undefined || host === undefined || !isPlaceName(cell) || !isPlaceName(host)) return null;
  return { host, cell };
}
