// `npm run docs`: writes the pages that are made from the program.

import { existsSync, writeFileSync } from 'node:fs';
import { pages, protocolEntry } from './pages.js';

for (const [path, content] of await pages()) {
  writeFileSync(path, content);
  process.stdout.write(`${path}\n`);
}

// A version that is written down stays as it is: a schema that has changed since needs a new one.
const [path, content] = protocolEntry();
if (!existsSync(path)) {
  writeFileSync(path, content);
  process.stdout.write(`${path}\n`);
}
