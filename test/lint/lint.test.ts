// Form and structure of the source: scripts/lint.js as a part of the tests.
import t from 'tap';
import { repositoryRoot } from '../support/programs.js';

t.spawn(process.execPath, ['scripts/lint.js'], { cwd: repositoryRoot }, 'lint');
