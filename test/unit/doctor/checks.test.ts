// Every check of `cellblock doctor` over facts where all is well, and over facts where what it looks for is wrong.

import t from 'tap';
import type { Facts } from '../../../src/commands/doctor/facts.js';
import type { Verdict } from '../../../src/commands/doctor/finding.js';
import { CHECKS, examine, reportText } from '../../../src/commands/doctor/report.js';
import { NOW_MS, type SoundFacts, soundFacts } from '../../support/doctor-facts.js';

type Case = [what: string, spoil: (facts: SoundFacts) => void, verdict: Verdict, message: RegExp];

const DAY_MS = 86_400_000;
const inDays = (days: number) => new Date(NOW_MS + days * DAY_MS).toISOString();
const unreached = (facts: Facts) => {
  facts.agent = { unknown: 'the agent is not reached' };
  facts.socket.failure = { message: 'No agent: the socket /x does not exist.', hint: 'Start cellblockd.' };
};

const CASES: Record<string, Case[]> = {
  'agent-reachable': [
    ['no agent answers', unreached, 'problem', /the socket \/x does not exist/],
    [
      'its unit has failed',
      (facts) => {
        unreached(facts);
        facts.systemd.service.activeState = 'failed';
      },
      'problem',
      /does not exist\. cellblockd\.service is failed/,
    ],
  ],
  'versions-agree': [
    [
      'another version runs',
      (facts) => {
        facts.agent.status.version = '1.2.2';
      },
      'warning',
      /1\.2\.3.*1\.2\.2/,
    ],
  ],
  'versions-addon': [
    [
      'it cannot be loaded',
      (facts) => {
        facts.command.addonProblem = 'The native part of cellblock cannot be loaded: it is not there.';
      },
      'problem',
      /cannot be loaded: it is not there/,
    ],
  ],
  'versions-node': [
    [
      'that of the command is too old',
      (facts) => {
        facts.command.node = '18.19.0';
      },
      'problem',
      /18\.19\.0/,
    ],
    [
      'that of the agent is too old',
      (facts) => {
        facts.agent.diagnosis.program.node = '18.1.0';
      },
      'problem',
      /18\.1\.0/,
    ],
    [
      'that of the agent is another one',
      (facts) => {
        facts.agent.diagnosis.program.node = '99.0.0';
      },
      'warning',
      /99\.0\.0/,
    ],
  ],
  'configuration-valid': [
    [
      'a key is unknown',
      (facts) => {
        facts.configuration.problem = { message: 'line 3: there is no key "x".', hint: 'Known: y.' };
      },
      'problem',
      /will not start.*line 3/,
    ],
  ],
  'configuration-in-force': [
    [
      'changed since the start',
      (facts) => {
        facts.configuration.changed = inDays(1);
      },
      'warning',
      /not in force/,
    ],
    [
      'the agent has none',
      (facts) => {
        facts.configuration.inForce = false;
      },
      'warning',
      /without/,
    ],
  ],
  'kernel-version': [
    [
      'too old',
      (facts) => {
        facts.kernel.release = '5.10.0-28-amd64';
      },
      'warning',
      /5\.10/,
    ],
    [
      'much too old',
      (facts) => {
        facts.kernel.release = '4.19.0';
      },
      'warning',
      /4\.19/,
    ],
  ],
  'kernel-nbd-driver': [
    [
      'not loaded',
      (facts) => {
        facts.kernel.nbd = 'loadable';
      },
      'warning',
      /not loaded/,
    ],
    [
      'not there',
      (facts) => {
        facts.kernel.nbd = 'missing';
      },
      'warning',
      /no nbd driver for Linux 6\.1/,
    ],
    [
      'not known',
      (facts) => {
        facts.kernel.nbd = { unknown: 'so' };
      },
      'not-checked',
      /because so\./,
    ],
  ],
  'kernel-nbd-partitions': [
    [
      'none seen',
      (facts) => {
        facts.kernel.nbdMaxPart = 0;
      },
      'warning',
      /max_part=0/,
    ],
    [
      'no driver',
      (facts) => {
        facts.kernel.nbd = 'loadable';
      },
      'not-checked',
      /not loaded/,
    ],
  ],
  'kernel-io-uring': [
    [
      'forbidden by the kernel',
      (facts) => {
        facts.agent.diagnosis.program.engine = 'workers';
        facts.kernel.ioUringDisabled = 2;
      },
      'warning',
      /forbidden \(kernel\.io_uring_disabled is 2\)/,
    ],
    [
      'forbidden by a container',
      (facts) => {
        facts.agent.diagnosis.program.engine = 'workers';
      },
      'warning',
      /io_uring is forbidden\./,
    ],
    [
      'forbidden, and no agent',
      (facts) => {
        unreached(facts);
        facts.kernel.ioUringDisabled = 1;
      },
      'warning',
      /forbids io_uring to most/,
    ],
  ],
  'devices-connections': [
    [
      'one is missing',
      (facts) => {
        facts.agent.attachments[0]!.connected = 1;
      },
      'warning',
      /nbd0 \(1 of 2\)/,
    ],
    [
      'none is there',
      (facts) => {
        facts.agent.attachments[0]!.connected = 0;
      },
      'problem',
      /nbd0 has no connection/,
    ],
  ],
  'devices-known': [
    [
      'one is lost',
      (facts) => {
        facts.agent.attachments = [];
      },
      'warning',
      /does not know \/dev\/nbd0/,
    ],
    ['nobody serves it', unreached, 'problem', /\/dev\/nbd0 of cellblock waits/],
  ],
  'permissions-group': [
    [
      'there is none',
      (facts) => {
        facts.group.exists = false;
      },
      'warning',
      /no group cellblock/,
    ],
    [
      'the caller is not in it',
      (facts) => void Object.assign(facts.group, { listed: false, held: false }),
      'warning',
      /User ann is not in/,
    ],
    [
      'logged in before',
      (facts) => {
        facts.group.held = false;
      },
      'warning',
      /logged in before/,
    ],
  ],
  'permissions-capabilities': [
    [
      'no CAP_SYS_ADMIN, with devices',
      (facts) => {
        facts.agent.diagnosis.process.capabilities = '0000000000000001';
      },
      'problem',
      /CAP_SYS_ADMIN/,
    ],
    [
      'none, without devices',
      (facts) => {
        facts.agent.diagnosis.process.capabilities = '0000000000000000';
        facts.agent.attachments = [];
      },
      'warning',
      /CAP_SYS_ADMIN .*CAP_CHOWN/,
    ],
  ],
  'permissions-descriptors': [
    [
      'nearly all open',
      (facts) =>
        void Object.assign(facts.agent.diagnosis.process, { openDescriptors: 8200, descriptorLimit: 10_000 }),
      'warning',
      /8200 of 10000/,
    ],
    [
      'all open',
      (facts) =>
        void Object.assign(facts.agent.diagnosis.process, { openDescriptors: 9900, descriptorLimit: 10_000 }),
      'problem',
      /about to be refused/,
    ],
    [
      'fewer than clients',
      (facts) => {
        facts.agent.diagnosis.process.descriptorLimit = 1024;
      },
      'warning',
      /1024 descriptors.*4096 clients/,
    ],
  ],
  'permissions-store': [
    [
      'open to others',
      (facts) => {
        facts.store.mode = 0o755;
      },
      'warning',
      /Everybody/,
    ],
    [
      'not to be seen',
      (facts) => void Object.assign(facts.store, { mode: null, error: 'EACCES' }),
      'not-checked',
      /EACCES/,
    ],
  ],
  'permissions-keys': [
    [
      'a key is open to others',
      (facts) => {
        facts.agent.diagnosis.files[1]!.mode = 0o644;
      },
      'problem',
      /\/tls\/key\.pem \(nbd\.tls\.key\)/,
    ],
  ],
  'store-state': [
    [
      'read-only',
      (facts) => {
        facts.agent.status.store.state = 'read-only';
      },
      'problem',
      /read-only/,
    ],
    [
      'healing',
      (facts) => {
        facts.agent.status.store.state = 'healing';
      },
      'warning',
      /tries again/,
    ],
    [
      'stopping',
      (facts) => {
        facts.agent.status.store.state = 'stopping';
      },
      'warning',
      /stopping/,
    ],
  ],
  'store-failed-volumes': [
    [
      'some',
      (facts) => {
        facts.agent.status.failedVolumes = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
      },
      'problem',
      /a, b, c, d, e and 2 more\./,
    ],
  ],
  'store-recovery': [
    [
      'power was lost',
      (facts) => void Object.assign(facts.agent.status.store.recovery, { clean: false, powerLoss: true }),
      'warning',
      /lost power/,
    ],
  ],
  'store-space': [
    [
      'full',
      (facts) => {
        facts.agent.status.store.space!.belowReserve = true;
      },
      'problem',
      /new writes are refused/,
    ],
    [
      'little left',
      (facts) => {
        facts.agent.status.store.space!.freeBytes = 300n << 20n;
        facts.agent.diagnosis.store.trend = null;
      },
      'warning',
      /Little room.*300M free/,
    ],
    [
      'full within a day',
      (facts) => {
        facts.agent.diagnosis.store.trend = { bytesPerSecond: -10_000_000, seconds: 3600 };
      },
      'warning',
      /full in 15h/,
    ],
    [
      'full within an hour',
      (facts) => {
        facts.agent.diagnosis.store.trend = { bytesPerSecond: -200_000_000, seconds: 3600 };
      },
      'problem',
      /full in 45m/,
    ],
  ],
  'store-file-system': [
    [
      'vfat',
      (facts) => {
        facts.store.mount!.type = 'vfat';
      },
      'problem',
      /cannot punch holes/,
    ],
    [
      'NFS 3',
      (facts) => {
        facts.store.mount!.type = 'nfs';
      },
      'problem',
      /nfs/,
    ],
    [
      'NFS 4.1',
      (facts) => void Object.assign(facts.store.mount!, { type: 'nfs4', options: ['rw', 'vers=4.1'] }),
      'problem',
      /NFS 4\.1/,
    ],
    [
      'NFS 4.2',
      (facts) => void Object.assign(facts.store.mount!, { type: 'nfs4', options: ['rw', 'vers=4.2'] }),
      'warning',
      /depends on a server/,
    ],
    [
      'FUSE',
      (facts) => {
        facts.store.mount!.type = 'fuse.sshfs';
      },
      'warning',
      /depends on its program/,
    ],
    [
      'memory',
      (facts) => {
        facts.store.mount!.type = 'tmpfs';
      },
      'warning',
      /in memory/,
    ],
    [
      'a container',
      (facts) => {
        facts.store.mount!.type = 'overlay';
      },
      'warning',
      /container/,
    ],
    [
      'anything else',
      (facts) => {
        facts.store.mount!.type = 'minix';
      },
      'warning',
      /not tried/,
    ],
  ],
  'store-mount-options': [
    [
      'read-only',
      (facts) => {
        facts.store.mount!.options = ['ro'];
      },
      'problem',
      /read-only/,
    ],
    [
      'no barriers',
      (facts) => {
        facts.store.mount!.options = ['rw', 'nobarrier'];
      },
      'problem',
      /nobarrier/,
    ],
    [
      'barrier=0',
      (facts) => {
        facts.store.mount!.options = ['rw', 'barrier=0'];
      },
      'problem',
      /barrier=0/,
    ],
    [
      'synchronous',
      (facts) => {
        facts.store.mount!.options = ['rw', 'sync'];
      },
      'warning',
      /every write waits/,
    ],
  ],
  'load-journal': [
    [
      'half full',
      (facts) => {
        facts.agent.diagnosis.journal.usedBytes = 40n << 20n;
      },
      'warning',
      /63 %/,
    ],
    [
      'full',
      (facts) => {
        facts.agent.diagnosis.journal.usedBytes = 48n << 20n;
      },
      'problem',
      /writes wait/,
    ],
  ],
  'load-memory': [
    [
      'low',
      (facts) => {
        facts.memory.availableBytes = 1n << 20n;
      },
      'warning',
      /1M of 16G/,
    ],
    [
      'the limit is near',
      (facts) => {
        facts.agent.diagnosis.process.memoryUsedBytes = 1000n << 20n;
      },
      'problem',
      /about to kill/,
    ],
    [
      'swapped out',
      (facts) => {
        facts.agent.diagnosis.process.swappedBytes = 100n << 20n;
      },
      'warning',
      /100M of the agent are swapped/,
    ],
  ],
  'clock-synchronised': [
    [
      'it is not',
      (facts) => {
        facts.clock = { synchronised: false };
      },
      'warning',
      /not synchronised/,
    ],
  ],
  'clock-coordinator': [
    [
      'behind',
      (facts) => {
        facts.agent.diagnosis.coordinator!.clockDifferenceMs = -5000;
      },
      'warning',
      /5\.0 s behind/,
    ],
    [
      'ahead',
      (facts) => {
        facts.agent.diagnosis.coordinator!.clockDifferenceMs = 61_000;
      },
      'warning',
      /61\.0 s ahead/,
    ],
    [
      'in no cell',
      (facts) => {
        facts.agent.diagnosis.coordinator = null;
      },
      'not-checked',
      /in no cell/,
    ],
  ],
  'coordinator-connected': [
    [
      'not connected',
      (facts) => {
        facts.agent.status.coordinator!.connected = false;
      },
      'problem',
      /no coordinator\./,
    ],
    [
      'not connected, and volumes wait',
      (facts) => void Object.assign(facts.agent.status.coordinator!, { connected: false, serving: false }),
      'problem',
      /volumes of cells wait/,
    ],
    [
      'nobody leads',
      (facts) => {
        facts.agent.status.coordinator!.leader = null;
      },
      'warning',
      /leads/,
    ],
    [
      'not serving',
      (facts) => {
        facts.agent.status.coordinator!.serving = false;
      },
      'warning',
      /not served yet/,
    ],
  ],
  'coordinator-certificates': [
    [
      'expired',
      (facts) => {
        facts.agent.diagnosis.files[2]!.certificate!.expires = inDays(-1);
      },
      'problem',
      /\/cell\/cert\.pem has expired on 2026-05-31/,
    ],
  ],
  'tls-certificates': [
    [
      'expired',
      (facts) => {
        facts.agent.diagnosis.files[0]!.certificate!.expires = inDays(-1);
      },
      'problem',
      /\/tls\/cert\.pem has expired on 2026-05-31/,
    ],
    [
      'about to expire',
      (facts) => {
        facts.agent.diagnosis.files[0]!.certificate!.expires = inDays(13);
      },
      'warning',
      /expires on 2026-06-14/,
    ],
    [
      'not valid yet',
      (facts) => {
        facts.agent.diagnosis.files[0]!.certificate!.from = inDays(1);
      },
      'problem',
      /not valid before/,
    ],
    [
      'lost',
      (facts) => {
        facts.agent.diagnosis.files[1]!.error = 'ENOENT';
      },
      'problem',
      /\/tls\/key\.pem.*ENOENT/,
    ],
    [
      'off',
      (facts) => {
        facts.agent.status.tls.mode = 'off';
      },
      'not-checked',
      /TLS is off/,
    ],
  ],
  'tls-in-clear': [
    [
      'served to everybody',
      (facts) =>
        void facts.agent.status.listeners.push('tcp:0.0.0.0:10809', 'tcp:[::1]:1', 'tcp:localhost:1'),
      'warning',
      /reaches tcp:0\.0\.0\.0:10809 can/,
    ],
  ],
  'systemd-unit': [
    [
      'failed',
      (facts) => {
        facts.systemd.service.activeState = 'failed';
      },
      'problem',
      /is failed/,
    ],
    [
      'starting',
      (facts) => {
        facts.systemd.service.activeState = 'activating';
      },
      'warning',
      /activating/,
    ],
    [
      'another agent answers',
      (facts) => {
        facts.systemd.service.mainPid = 5;
      },
      'warning',
      /pid 77.*pid 5/,
    ],
    [
      'restarted',
      (facts) => {
        facts.systemd.service.restarts = 3;
      },
      'warning',
      /3 times/,
    ],
    [
      'not enabled',
      (facts) => {
        facts.systemd.service.fileState = 'disabled';
      },
      'warning',
      /not start with/,
    ],
    [
      'not installed',
      (facts) => {
        facts.systemd.service.loadState = 'not-found';
      },
      'not-checked',
      /not installed/,
    ],
  ],
  'systemd-watchdog': [
    [
      'none',
      (facts) => {
        facts.systemd.service.watchdogMs = 0;
      },
      'warning',
      /Nobody restarts/,
    ],
  ],
  'systemd-kept-clients': [
    [
      'nothing is kept',
      (facts) => {
        facts.systemd.service.descriptorStoreMax = 0;
      },
      'problem',
      /keeps nothing/,
    ],
    [
      'too few',
      (facts) => {
        facts.systemd.service.descriptorStoreMax = 100;
      },
      'warning',
      /100 sockets/,
    ],
  ],
  'systemd-sockets': [
    [
      'not active',
      (facts) => {
        facts.systemd.sockets[1]!.activeState = 'inactive';
      },
      'warning',
      /enabled: cellblockd-api\.socket;/,
    ],
  ],
};

t.test('where all is well every check says so', async (t) => {
  const report = examine(soundFacts());
  t.same(
    report.checks.filter(({ verdict }) => verdict !== 'ok'),
    [],
  );
  t.equal(report.healthy, true);
});

t.test('every check has a case that it finds', async (t) => {
  t.same(Object.keys(CASES).sort(), CHECKS.map(({ id }) => id).sort());
});

for (const [id, cases] of Object.entries(CASES)) {
  for (const [what, spoil, verdict, message] of cases) {
    t.test(`${id}: ${what}`, async (t) => {
      const facts = soundFacts();
      spoil(facts);
      const report = examine(facts);
      const line = report.checks.find(({ check }) => check === id)!;
      t.equal(line.verdict, verdict, line.message);
      t.match(line.message, message);
      t.match(line.message, /^([A-Z/\d]|cellblockd\.service |systemd ).*\.$/, 'a sentence');
      if (verdict === 'not-checked') t.equal(line.remedy, null);
      else t.match(line.remedy, /^[A-Z].*\.$/, 'and one on what to do');
      if (verdict === 'problem') t.equal(report.healthy, false);
    });
  }
}

t.test('what is no fault is none', async (t) => {
  const verdictOf = (id: string, change: (facts: SoundFacts) => void) => {
    const facts = soundFacts();
    change(facts);
    return examine(facts).checks.find(({ check }) => check === id)!.verdict;
  };
  const fine: [string, (facts: SoundFacts) => void][] = [
    [
      'store-space',
      (facts) => {
        facts.agent.diagnosis.store.trend = { bytesPerSecond: 5e8, seconds: 600 };
      },
    ],
    [
      'store-space',
      (facts) => {
        facts.agent.diagnosis.store.trend = null;
      },
    ],
    [
      'store-recovery',
      (facts) => {
        facts.agent.status.store.recovery.clean = false;
      },
    ],
    [
      'kernel-version',
      (facts) => {
        facts.kernel.release = '5.14.0';
      },
    ],
    ['permissions-group', (facts) => void Object.assign(facts, { command: { ...facts.command, uid: 0 } })],
    [
      'kernel-io-uring',
      ({ agent }) =>
        void Object.assign(agent.diagnosis.program, { engine: 'workers', engineWanted: 'workers' }),
    ],
    [
      'systemd-kept-clients',
      ({ agent }) => {
        agent.diagnosis.program.keepsClients = false;
      },
    ],
    [
      'coordinator-connected',
      ({ agent }) => {
        agent.status.coordinator = null;
      },
    ],
    [
      'tls-in-clear',
      ({ agent: { status } }) => {
        status.tls.mode = 'forced';
        status.listeners.push('tcp:0.0.0.0:10809');
      },
    ],
    [
      'devices-connections',
      ({ agent }) => {
        agent.attachments = [];
      },
    ],
  ];
  for (const [id, change] of fine) t.equal(verdictOf(id, change), 'ok', id);
});

t.test('where nothing is known nothing is claimed', async (t) => {
  const unknown = { unknown: 'nobody knows' };
  const report = examine({
    ...soundFacts(),
    kernel: { release: '', nbd: unknown, nbdMaxPart: null, ioUringDisabled: null, devices: unknown },
    socket: { path: '/x', failure: { message: 'No agent.', hint: 'Start it.' } },
    group: unknown,
    agent: unknown,
    store: unknown,
    configuration: unknown,
    clock: unknown,
    systemd: unknown,
    memory: unknown,
  });
  for (const { check, verdict, message } of report.checks) {
    if (check === 'agent-reachable') t.equal(verdict, 'problem');
    else if (['versions-addon', 'versions-node', 'kernel-io-uring'].includes(check)) t.equal(verdict, 'ok');
    else t.equal(verdict, 'not-checked', `${check}: ${message}`);
  }
});

t.test('for people: what is wrong, what to do, and how much of each', async (t) => {
  const facts = soundFacts();
  facts.agent.status.failedVolumes = ['web\u0007'];
  facts.clock = { unknown: 'there is no timedatectl' };
  const report = examine(facts);
  const all = reportText(report, { all: true });
  t.match(
    all,
    /^PROBLEM {2}Read-only since their disk failed: web\\u\{7\}\. \[store-failed-volumes\]\n {9}Look at/m,
  );
  t.match(all, /^- {8}Not checked because there is no timedatectl\. \[clock-synchronised\]$/m);
  t.match(all, new RegExp(`\\n1 problem, 0 warnings, ${CHECKS.length - 2} ok, 1 not checked\\.\\n$`));
  const brief = reportText(report, { all: false });
  t.equal(brief.match(/\[[a-z-]+\]/g)?.length, 1);
  for (const line of all.split('\n')) t.ok(line.length <= 100, line);
});
