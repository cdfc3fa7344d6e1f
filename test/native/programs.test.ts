// The C++ test programs as node-gyp built them. `npm run build:native` builds them; each prints TAP.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { repositoryRoot } from '../support/programs.js';

const folder = path.join(repositoryRoot, 'build/Release/tests');
const programs = readdirSync(folder).filter((name) => name.endsWith('_test'));
t.ok(programs.length > 0, 'there are programs');
t.jobs = 1;
for (const name of programs.sort()) t.spawn(path.join(folder, name), [], {}, name);
