// What the package holds of the TypeScript: few files with everything in them, instead of a thousand small ones. A start opens a dozen of
// them, and clients wait for a start.
//
// Names, lines and order stay readable: a stack trace names functions of the sources. Whatever is loaded later in the sources is a file of
// its own here too. Modules with machine code stay outside.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';

/** They find their binaries beside themselves. */
const OUTSIDE = ['level', 'classic-level'];

/** What is bundled of CommonJS asks for Node's own modules by `require`, which modules do not have. */
const BANNER =
  "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);";

/**
 * Bundles the programs into one folder, under the names of their files. Gives the names of the npm packages that are in it, and of those that are
 * needed beside it.
 */
export async function bundle(project, { programs, folder }) {
  const { metafile } = await build({
    absWorkingDir: project,
    entryPoints: programs,
    outdir: folder,
    entryNames: '[name]',
    chunkNames: 'part-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: OUTSIDE,
    banner: { js: BANNER },
    legalComments: 'inline',
    metafile: true,
    logLevel: 'error',
  });
  const inside = new Set(Object.keys(metafile.inputs).flatMap((name) => packageOf(name) ?? []));
  return { inside: [...inside].sort(), outside: withDependencies(project, OUTSIDE) };
}

/** The folder of the npm package a file belongs to; null: it is the project's own. */
function packageOf(name) {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? null;
}

function withDependencies(project, names) {
  const all = new Set();
  const add = (name, above) => {
    const place = above
      .map((folder) => path.join(folder, 'node_modules', name))
      .find((folder) => existsSync(path.join(project, folder)));
    if (place === undefined) throw new Error(`the npm package ${name} is not installed`);
    if (all.has(place)) return;
    all.add(place);
    const { dependencies = {} } = JSON.parse(readFileSync(path.join(project, place, 'package.json'), 'utf8'));
    for (const each of Object.keys(dependencies)) add(each, [place, ...above]);
  };
  for (const name of names) add(name, ['']);
  return [...all].sort();
}
