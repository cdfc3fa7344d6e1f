// Where clang lies: the versions of which fuzzing is known to work have their number in their name on Debian.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const versions = ['-14', '', '-19', '-18', '-17', '-16', '-15'];

// Not every tool of LLVM knows --version, and llvm-profdata says so with its exit code: it is enough that it starts.
const runs = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

/** The first of `names` (a tool's, without the version) that is there, or null. */
export function findLlvm(tool) {
  return versions.map((version) => `${tool}${version}`).find(runs) ?? null;
}

/** The compiler for fuzzing, or null. CXX names another one. */
export function findClang() {
  const given = process.env.CXX;
  return given?.includes('clang') ? given : findLlvm('clang++');
}

/** The same for the sanitizers, which need its run-time library; null without that. */
export function findSanitizer() {
  const clang = findClang();
  if (clang === null) return null;
  const { stdout } = spawnSync(clang, ['-print-runtime-dir'], { encoding: 'utf8' });
  return existsSync(stdout.trim()) ? clang : null;
}
