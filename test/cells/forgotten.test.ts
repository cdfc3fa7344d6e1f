// A host is lost during a move, and given up by an operator: the volume goes elsewhere, and the host serves nothing when it comes back after all.

import t from 'tap';
import { tooLongForQuick } from '../support/effort.js';
import { noNetworks } from '../support/network-lab.js';
import { Scene, VOLUME } from './scene.js';

t.setTimeout(600_000);

t.test(
  'moved elsewhere without it, and held back afterwards',
  { skip: tooLongForQuick || noNetworks() },
  async (t) => {
    const scene = await Scene.begin(t, { hosts: ['h1', 'h3', 'h4'] });
    await scene.make();
    const { h1, site } = scene;
    const [lost, other] = await twoOf(scene);
    await lost.harm('kill');
    for (const host of [lost, other]) h1.spot.mendTo(host.spot);
    t.match(await site.typed('host', 'forget', lost.name, '--yes'), {
      code: 5,
      stderr: /volume disk is on the move[\s\S]*cellblock move cancel disk/,
    });
    await site.said('move', 'cancel', VOLUME);
    await scene.until('the move to be over', ({ route }) => route.journal === null);
    await scene.write(h1);
    t.match(await site.typed('move', VOLUME, '--to', 'west'), {
      stderr: new RegExp(`cellblock host forget ${lost.name}`),
    });
    t.match(
      await site.said('host', 'forget', lost.name, '--yes'),
      /is forgotten: the routes of disk name it no more/,
    );
    t.notMatch(await site.said('host', 'list'), lost.name);
    await scene.moved('west');
    await scene.write(other);
    await lost.heal();
    await site.connected();
    t.match(await site.json('host', 'show', lost.name), { regressed: true });
    await t.rejects(lost.connect(VOLUME), 'nobody is served there');
    await site.said('host', 'readmit', lost.name, '--yes');
    await t.rejects(lost.connect(VOLUME), 'nor when it is believed');
    t.match(await site.json('host', 'show', lost.name), { strays: [{ name: VOLUME, state: 'RECEIVING' }] });
    t.match(await site.said('host', 'purge', lost.name, VOLUME), /has nothing of volume disk any more/);
    t.match(await site.json('host', 'show', lost.name), { strays: [] });
    await scene.write(other);
    await scene.snapshot('second');
  },
);

/** That which the move goes to, whose copy does not come on; and the other one of its cell. The source reaches neither. */
async function twoOf(scene: Scene) {
  const { h1, h3, site } = scene;
  const h4 = site.host('h4');
  for (const host of [h3, h4]) h1.spot.cutFrom(host.spot);
  await scene.move('west');
  const { details } = await scene.until(
    'the copy to be begun',
    ({ route }, { y }) => route.journal?.phase === 'COPYING' && y.state === 'RECEIVING',
  );
  const lost = site.host(details.route.alternate!.primary);
  return [lost, lost === h3 ? h4 : h3] as const;
}
