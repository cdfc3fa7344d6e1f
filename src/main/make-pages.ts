// `npm run docs`: writes the pages that are made from the program.

import { writeFileSync } from 'node:fs';
import { pages } from './pages.js';

for (const [path, content] of await pages()) {
  writeFileSync(path, content);
  process.stdout.write(`${path}\n`);
}
