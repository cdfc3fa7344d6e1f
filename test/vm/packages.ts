// The package, built from this tree, and the same under a higher version: what is installed, and what it is upgraded to.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { must, repositoryRoot } from '../support/programs.js';

let built: Promise<[string, string]> | undefined;

/** Built once a run. */
export function packages(): Promise<[string, string]> {
  built ??= build();
  return built;
}

async function build(): Promise<[string, string]> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cellblock-packages-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  await must(process.execPath, [path.join(repositoryRoot, 'scripts/package.js'), folder]);
  const name = readdirSync(folder).find((one) => one.endsWith('.deb'));
  if (name === undefined) throw new Error(`no package was made in ${folder}`);
  const older = path.join(folder, name);
  const tree = path.join(folder, 'newer');
  await must('dpkg-deb', ['--raw-extract', older, tree]);
  const control = path.join(tree, 'DEBIAN/control');
  const text = readFileSync(control, 'utf8');
  writeFileSync(
    control,
    text.replace(/^Version: .*$/m, (line) => `${line}.1~newer`),
  );
  const newer = path.join(folder, name.replace('_', '_newer_'));
  await must('dpkg-deb', ['--root-owner-group', '--build', tree, newer]);
  return [older, newer];
}
