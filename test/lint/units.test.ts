// The units of systemd: accepted by it, and shut in as far as docs/systemd.md says.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { missing, repositoryRoot, run } from '../support/programs.js';

const skip = missing('systemd-analyze');
const folder = path.join(repositoryRoot, 'systemd');
const units = readdirSync(folder).filter((name) => /\.(service|socket)$/.test(name));

t.test('every unit is understood', { skip }, async (t) => {
  const files = units.map((name) => path.join(folder, name));
  const { stdout, stderr } = await run('systemd-analyze', ['verify', ...files]);
  // The programs are where the package puts them.
  const complaints = `${stdout}${stderr}`
    .split('\n')
    .filter((line) => /systemd\/|cellblock/.test(line) && !/is not executable/.test(line));
  t.same(complaints, []);
  t.ok(units.length >= 5, units.join(' '));
});

t.test('exposure', { skip }, async (t) => {
  const most = { 'cellblockd.service': 3.0, 'cellblock-coordinator.service': 1.3 };
  for (const [unit, limit] of Object.entries(most)) {
    const { stdout } = await run('systemd-analyze', ['security', '--offline=yes', path.join(folder, unit)]);
    const score = /Overall exposure level for .*: ([\d.]+)/.exec(stdout)?.[1];
    t.ok(Number(score) <= limit, `${unit}: ${score}`);
  }
});
