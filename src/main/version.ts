// The version in package.json, which lies two levels above in src and three in dist.

import { readFileSync } from 'node:fs';

export const version: string = find(new URL('.', import.meta.url));

function find(directory: URL): string {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL('package.json', directory), 'utf8')) as Record<
      string,
      string
    >;
    if (name === 'cellblock' && version !== undefined) return version;
  } catch {
    // Not here; further up.
  }
  const parent = new URL('..', directory);
  if (parent.href === directory.href) return '0.0.0';
  return find(parent);
}
