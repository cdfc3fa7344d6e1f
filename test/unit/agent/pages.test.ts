// The pages in docs/ that are made from the program are what the program says now. `npm run docs` makes them anew.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { pages } from '../../../src/main/pages.js';

/** The checkout: above this file, wherever it was compiled to, or where the tests are run. */
function checkout(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); at !== dirname(at); at = dirname(at)) {
    if (existsSync(join(at, 'package.json')) && existsSync(join(at, 'docs'))) return at;
  }
  return process.cwd();
}

for (const [path, content] of await pages()) {
  t.equal(readFileSync(join(checkout(), path), 'utf8'), content, `${path} is current (npm run docs)`);
}
