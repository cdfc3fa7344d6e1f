// `npm run docs`: writes the pages that are made from the program.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pages, protocolEntry } from './pages.js';

for (const [path, content] of await pages()) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  process.stdout.write(`${path}\n`);
}

// A version that is written down stays as it is: a schema that has changed since needs a new one.
const [path, content] = protocolEntry();
if (!existsSync(path)) {
  writeFileSync(path, content);
  process.stdout.write(`${path}\n`);
}
