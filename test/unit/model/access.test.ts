// Access lists: what can stand in one, and whom it lets in.
import t from 'tap';
import {
  checkAllowed,
  checkDescription,
  MAX_ALLOWED,
  MAX_DESCRIPTION_BYTES,
  mayUse,
} from '../../../src/model/access.js';

const NOBODY = { uid: -1, identity: '' };

t.test('an empty list lets everybody in', async (t) => {
  for (const asker of [NOBODY, { uid: 0, identity: '' }, { uid: -1, identity: 'x509:a' }]) {
    t.ok(mayUse([], asker));
  }
});

const CASES: [allowed: string[], asker: { uid: number; identity: string }, may: boolean][] = [
  [['uid:1000'], { uid: 1000, identity: '' }, true],
  [['uid:1000'], { uid: 100, identity: '' }, false],
  [['uid:1000'], { uid: 10000, identity: '' }, false],
  [['uid:1000'], { uid: 0, identity: '' }, false],
  [['uid:1000'], NOBODY, false],
  [['uid:0'], { uid: 0, identity: '' }, true],
  [['uid:1', 'uid:2'], { uid: 2, identity: '' }, true],
  [['tls:x509:backup'], { uid: -1, identity: 'x509:backup' }, true],
  [['tls:x509:backup'], { uid: -1, identity: 'x509:backup2' }, false],
  [['tls:x509:backup'], { uid: -1, identity: 'x509:back' }, false],
  [['tls:x509:backup'], { uid: -1, identity: 'psk:backup' }, false],
  [['tls:x509:backup'], { uid: -1, identity: 'X509:BACKUP' }, false],
  [['tls:x509:host-*'], { uid: -1, identity: 'x509:host-7' }, true],
  [['tls:x509:host-*'], { uid: -1, identity: 'x509:host-' }, true],
  [['tls:x509:host-*'], { uid: -1, identity: 'x509:other' }, false],
  [['tls:*'], { uid: -1, identity: 'psk:a' }, true],
  [['tls:*'], NOBODY, false],
  [['tls:*'], { uid: 0, identity: '' }, false],
  [['uid:5', 'tls:psk:a'], { uid: 6, identity: 'psk:a' }, true],
];

t.test('who is let in', async (t) => {
  for (const [allowed, asker, may] of CASES) {
    t.equal(mayUse(checkAllowed(allowed), asker), may, `${allowed.join(' ')} for ${JSON.stringify(asker)}`);
  }
});

t.test('what stands there twice is kept once, in order', async (t) => {
  t.same(checkAllowed(['uid:2', 'tls:a', 'uid:2', 'uid:1', 'tls:a']), ['uid:2', 'tls:a', 'uid:1']);
});

const WRONG: [entry: string, says: RegExp][] = [
  ['', /names nobody/],
  ['root', /names nobody/],
  ['gid:0', /names nobody/],
  ['UID:0', /names nobody/],
  ['uid:', /not the number of a user/],
  ['uid:root', /not the number of a user/],
  ['uid:-1', /not the number of a user/],
  ['uid:01', /not the number of a user/],
  ['uid:1 ', /not the number of a user/],
  ['uid:1*', /not the number of a user/],
  ['uid:4294967295', /not the number of a user/],
  ['tls:', /lacks the identity/],
  ['tls:*a', /`\*` that is not its end/],
  ['tls:a*b*', /`\*` that is not its end/],
  ['tls:a\nb', /control character/],
  ['tls:\ud800', /control character/],
  [`tls:${'x'.repeat(1025)}`, /1025 bytes; 1024 are allowed/],
];

t.test('what cannot stand in a list is refused with a sentence', async (t) => {
  for (const [entry, says] of WRONG) {
    t.throws(
      () => checkAllowed(['uid:1', entry]),
      { code: 'access-entry-malformed', message: says, hint: /Write `uid:NUMBER`/ },
      JSON.stringify(entry).slice(0, 40),
    );
  }
  t.same(checkAllowed(['uid:4294967294', `tls:${'x'.repeat(1024)}`]).length, 2, 'up to the limits');
  const many = Array.from({ length: MAX_ALLOWED + 1 }, (_, uid) => `uid:${uid}`);
  t.same(checkAllowed(many.slice(1)).length, MAX_ALLOWED);
  t.throws(() => checkAllowed(many), { code: 'access-entry-malformed', message: /257 entries/ });
});

t.test('descriptions', async (t) => {
  for (const text of ['', 'the disk of the shop', 'ä'.repeat(MAX_DESCRIPTION_BYTES / 2)]) {
    t.doesNotThrow(() => checkDescription(text));
  }
  t.throws(() => checkDescription('x'.repeat(1025)), { code: 'description-invalid', message: /1025 bytes/ });
  for (const text of ['two\nlines', '\u0000', '\ud800', '\u2028']) {
    t.throws(() => checkDescription(text), { code: 'description-invalid', message: /control character/ });
  }
});
