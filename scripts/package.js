// Builds the Debian package of this machine's architecture: build/package/cellblock_VERSION_ARCH.deb.
//
//   node scripts/package.js [DIRECTORY]
//
// From one commit the same bytes come out, however often: files have no date later than the commit, and archives neither users nor
// the hour. Everything to be packed lies below DIRECTORY/root afterwards, as it will on a host.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { bundle } from './bundle.js';

const project = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = (...parts) => path.join(project, ...parts);
const { name, version, type, license, bin } = JSON.parse(readFileSync(from('package.json'), 'utf8'));

/** Where the program lies on a host. */
const HOME = 'usr/lib/cellblock';
const DOCUMENTS = 'usr/share/doc/cellblock';
const LICENCES = `${DOCUMENTS}/licences`;
const PLATFORM = `${process.platform}-${process.arch}`;
/** What a Debian has whose libstdc++ is there, which apt itself needs: a Node that wants more is not made to be copied. */
const BASE = ['libc6', 'libgcc-s1', 'libstdc++6'];

class PackageError extends Error {}

function must(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: project, encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (done.error) throw new PackageError(`${command} cannot be run: ${done.error.message}`);
  if (done.status !== 0)
    throw new PackageError(`${command} ${args.join(' ')} failed:\n${done.stderr}${done.stdout ?? ''}`);
  return done.stdout;
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => !lstatSync(path.join(folder, name)).isDirectory())
    .sort();
}

/** The tree to be packed. */
class Root {
  constructor(directory) {
    this.directory = directory;
    rmSync(directory, { recursive: true, force: true });
  }

  path(...parts) {
    return path.join(this.directory, ...parts);
  }

  write(place, content, mode = 0o644) {
    mkdirSync(path.dirname(this.path(place)), { recursive: true });
    writeFileSync(this.path(place), content);
    chmodSync(this.path(place), mode);
  }

  copy(source, place, mode) {
    this.write(place, readFileSync(source), mode);
  }

  /** Folders for everybody, files as they are but for write permission of others. */
  settleModes(directory = this.directory) {
    chmodSync(directory, 0o755);
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const at = path.join(directory, entry.name);
      if (entry.isDirectory()) this.settleModes(at);
      else if (entry.isFile()) chmodSync(at, lstatSync(at).mode & 0o111 ? 0o755 : 0o644);
    }
  }
}

/** Few files with everything in them, and what cannot be in them beside. */
async function addScripts(root) {
  const main = path.dirname(bin.cellblock);
  const programs = [...Object.values(bin), 'dist/src/operations/check/metadata-reader.js'];
  const { inside, outside } = await bundle(project, { programs, folder: root.path(HOME, main) });
  for (const place of outside) cpSync(from(place), root.path(HOME, place), { recursive: true });
  pruneModules(root.path(HOME, 'node_modules'));
  for (const place of inside) addLicence(root, place);
}

/** What an npm package asks to be passed on with it. */
function addLicence(root, place) {
  const facts = JSON.parse(readFileSync(from(place, 'package.json'), 'utf8'));
  const texts = readdirSync(from(place))
    .filter((each) => /^(licen[cs]e|copying|notice)/i.test(each))
    .map((each) => readFileSync(from(place, each), 'utf8'));
  const said = [`${facts.name} ${facts.version}, ${JSON.stringify(facts.license)}`, ...texts];
  root.write(`${LICENCES}/${facts.name.replace('/', '+')}-${facts.version}`, `${said.join('\n\n').trim()}\n`);
}

/** Takes away what no run of this program on this platform reads. */
function pruneModules(modules) {
  const prebuilds = path.join(modules, 'classic-level', 'prebuilds');
  const binary = path.join(prebuilds, PLATFORM, binaryName());
  if (!existsSync(binary))
    throw new PackageError(`classic-level has no prebuilt binary for ${PLATFORM}: ${binary} is missing`);
  for (const name of filesBelow(prebuilds)) {
    if (path.join(prebuilds, name) !== binary) rmSync(path.join(prebuilds, name));
  }
  for (const folder of readdirSync(prebuilds)) {
    if (folder !== PLATFORM) rmSync(path.join(prebuilds, folder), { recursive: true });
  }
  for (const source of ['deps', 'binding.cc', 'binding.gyp']) {
    rmSync(path.join(modules, 'classic-level', source), { recursive: true, force: true });
  }
  for (const name of filesBelow(modules)) {
    if (
      /\.(map|d\.[cm]?ts|ts|md|markdown|yml|tap)$/i.test(name) &&
      !/licen[cs]e|copying|notice/i.test(path.basename(name))
    )
      rmSync(path.join(modules, name));
  }
}

function binaryName() {
  return process.arch === 'arm64' ? 'classic-level.armv8.node' : 'classic-level.node';
}

function strip(file) {
  must('strip', ['--strip-unneeded', '--enable-deterministic-archives', file]);
}

async function addPrograms(root) {
  const manifest = { name, version, type, license, private: true };
  root.write(`${HOME}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
  await addScripts(root);
  root.copy(from('build/Release/cellblock.node'), `${HOME}/prebuilt/${PLATFORM}/cellblock.node`);
  root.copy(process.execPath, `${HOME}/bin/node`, 0o755);
  for (const [command, script] of Object.entries(bin)) {
    root.write(`usr/bin/${command}`, `#!/bin/sh\nexec /${HOME}/bin/node /${HOME}/${script} "$@"\n`, 0o755);
  }
  strip(root.path(HOME, 'prebuilt', PLATFORM, 'cellblock.node'));
  strip(root.path(HOME, 'bin/node'));
}

/** For systemd: units, users, directories, modules, and the configuration they name. */
function addService(root) {
  for (const name of readdirSync(from('systemd')).filter((each) => /\.(service|socket)$/.test(each))) {
    root.copy(from('systemd', name), `lib/systemd/system/${name}`);
  }
  for (const folder of ['sysusers.d', 'tmpfiles.d', 'modules-load.d']) {
    root.copy(from('systemd', folder, 'cellblock.conf'), `usr/lib/${folder}/cellblock.conf`);
  }
  root.copy(from('systemd/rules.d/60-cellblock.rules'), 'lib/udev/rules.d/60-cellblock.rules');
  root.copy(from('packaging/cellblock.yaml'), 'etc/cellblock/cellblock.yaml');
}

function addDocuments(root) {
  for (const name of readdirSync(from('docs')).filter((each) => /\.(md|json)$/.test(each))) {
    root.copy(from('docs', name), `${DOCUMENTS}/${name}`);
  }
  root.copy(from('README.md'), `${DOCUMENTS}/README.md`);
  root.copy(from('packaging/debian/copyright'), `${DOCUMENTS}/copyright`);
  // Neither name nor time in its head.
  root.write(`${DOCUMENTS}/changelog.gz`, gzipSync(readFileSync(from('CHANGELOG.md')), { level: 9 }));
  for (const page of readdirSync(from('docs/man'))) {
    const section = page.split('.').at(-1);
    root.write(
      `usr/share/man/man${section}/${page}.gz`,
      gzipSync(readFileSync(from('docs/man', page)), { level: 9 }),
    );
  }
}

function addCompletion(root) {
  const places = {
    bash: 'usr/share/bash-completion/completions/cellblock',
    zsh: 'usr/share/zsh/vendor-completions/_cellblock',
    fish: 'usr/share/fish/vendor_completions.d/cellblock.fish',
  };
  for (const [shell, place] of Object.entries(places)) {
    root.write(place, must(process.execPath, [from(bin.cellblock), 'completion', shell]));
  }
}

/** Debian packages whose libraries the binaries of the package are linked to, no older than here. */
function dependencies(root) {
  const binaries = filesBelow(root.path(HOME)).filter(
    (name) => name.endsWith('.node') || name === 'bin/node',
  );
  const needed = new Map();
  for (const binary of binaries) {
    for (const owner of librariesOf(root.path(HOME, binary)).map(ownerOf)) needed.set(owner, binary);
  }
  const strange = [...needed].find(([owner]) => !BASE.includes(owner));
  if (strange)
    throw new PackageError(
      `${strange[1]} needs the package ${strange[0]}, which a Debian need not have; build with a Node from https://nodejs.org`,
    );
  return [...needed.keys()].sort().map((owner) => {
    const installed = must('dpkg-query', ['-W', '-f', '${Version}', owner]);
    return `${owner} (>= ${installed.replace(/^\d+:/, '').replace(/-[^-]*$/, '')})`;
  });
}

function librariesOf(binary) {
  const lines = must('ldd', [binary]).split('\n');
  const lost = lines.find((line) => line.includes('not found'));
  if (lost) throw new PackageError(`${binary}: ${lost.trim()}`);
  return lines.flatMap((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

/** dpkg may know a file by its place before /lib became a link to /usr/lib. */
function ownerOf(library) {
  for (const place of [library, library.replace(/^\/usr/, ''), `/usr${library}`]) {
    const done = spawnSync('dpkg-query', ['-S', place], { encoding: 'utf8' });
    if (done.status === 0) return done.stdout.split(/[:,]/)[0];
  }
  throw new PackageError(`no Debian package has ${library}`);
}

function addControl(root) {
  const files = filesBelow(root.directory);
  const bytes = files.reduce((sum, name) => sum + Math.ceil(lstatSync(root.path(name)).size / 1024), 0);
  const facts = {
    VERSION: version,
    ARCHITECTURE: must('dpkg', ['--print-architecture']).trim(),
    INSTALLED_SIZE: String(bytes),
    DEPENDS: dependencies(root).join(', '),
  };
  const sums = files.map(
    (name) =>
      `${createHash('md5')
        .update(readFileSync(root.path(name)))
        .digest('hex')}  ${name}\n`,
  );
  const control = readFileSync(from('packaging/debian/control'), 'utf8').replaceAll(
    /@([A-Z_]+)@/g,
    (_all, name) => facts[name],
  );
  root.write('DEBIAN/control', control);
  root.write('DEBIAN/md5sums', sums.join(''));
  root.write(
    'DEBIAN/conffiles',
    files
      .filter((name) => name.startsWith('etc/'))
      .map((name) => `/${name}\n`)
      .join(''),
  );
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) {
    root.copy(from('packaging/debian', script), `DEBIAN/${script}`, 0o755);
  }
  return facts;
}

/** Of the last commit; a tarball without one says it in SOURCE_DATE_EPOCH. */
function sourceDate() {
  return process.env.SOURCE_DATE_EPOCH ?? must('git', ['log', '-1', '--format=%ct']).trim();
}

export async function buildPackage(directory) {
  const root = new Root(path.join(directory, 'root'));
  await addPrograms(root);
  addService(root);
  addDocuments(root);
  addCompletion(root);
  root.settleModes();
  const { ARCHITECTURE } = addControl(root);
  const file = path.join(directory, `cellblock_${version}_${ARCHITECTURE}.deb`);
  const words = ['--root-owner-group', '-Zzstd', '-z9', '--build', root.directory, file];
  must('dpkg-deb', words, { env: { ...process.env, SOURCE_DATE_EPOCH: sourceDate() } });
  return file;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(await buildPackage(path.resolve(process.argv[2] ?? from('build/package'))));
  } catch (error) {
    if (!(error instanceof PackageError)) throw error;
    console.error(`package: ${error.message}`);
    process.exit(1);
  }
}
