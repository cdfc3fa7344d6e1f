// A store on a file system that cannot punch holes is refused at the start, in one sentence: NTFS by ntfs-3g, a real one.
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { missing, must, repositoryRoot, run } from '../support/programs.js';

const lacking =
  missing('ntfs-3g', 'mkntfs', 'fusermount3') || (process.getuid?.() !== 0 && 'only root mounts it');

t.test('a store on NTFS', { skip: lacking }, async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-ntfs-'));
  const [image, mounted] = [path.join(directory, 'image'), path.join(directory, 'mounted')];
  mkdirSync(mounted);
  writeFileSync(image, '');
  truncateSync(image, 2 ** 28);
  await must('mkntfs', ['-qF', image]);
  if ((await run('ntfs-3g', [image, mounted])).code !== 0) {
    rmSync(directory, { recursive: true });
    t.pass('not tried: FUSE is not to be had here');
    return;
  }
  t.teardown(async () => {
    await must('fusermount3', ['-u', mounted]);
    rmSync(directory, { recursive: true });
  });
  const words = ['--store', path.join(mounted, 'store'), '--nbd', `unix:${path.join(directory, 'nbd')}`];
  const refused = await run(process.execPath, [
    path.join(repositoryRoot, 'dist/src/main/cellblockd.js'),
    ...words,
    ...['--api', path.join(directory, 'api')],
  ]);
  t.equal(refused.code, 7, refused.story);
  t.match(
    refused.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{')),
    [
      /^cellblockd: The file system of the store \S+ cannot punch holes, .* such as ext4 or XFS; `cellblock doctor`/,
    ],
  );
});
