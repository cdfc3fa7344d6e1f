// Examples of the manual. Invariant, held by a test: every line is one the program takes, as far as commands, options and the number of
// arguments go.

export interface Example {
  what: string;
  line: string;
}

const example = (what: string, line: string): Example => ({ what, line });

/** By the name of the page. */
export const COMMAND_EXAMPLES: Readonly<Record<string, readonly Example[]>> = {
  cellblock: [
    example(
      'A volume, a snapshot of it, and a clone that continues the snapshot:',
      'cellblock volume create web --size 10G\ncellblock snapshot create web@monday\ncellblock clone web@monday try-this',
    ),
    example('The same for another agent, as JSON:', 'cellblock --api ./data/api.sock --json volume list'),
  ],
  'cellblock-volume': [
    example(
      'Import an image, and one that is compressed:',
      'cellblock volume import debian ./debian.img --hash sha256\nxz -dc debian.img.xz | cellblock volume import debian2 - --size 4G',
    ),
    example(
      'Only user 1000 and clients with a certificate of web1 may open it, at most 500 requests a second:',
      'cellblock volume create web --size 10G --allow uid:1000 tls:web1 --iops 500',
    ),
    example('What a deletion would take:', 'cellblock volume delete web --with-snapshots --dry-run'),
  ],
  'cellblock-file': [
    example(
      'Take a file in with its attributes, and out again:',
      'cellblock file import seed ./seed.iso\ncellblock file export seed ./copy.iso',
    ),
  ],
  'cellblock-snapshot': [
    example('Several volumes in one instant:', 'cellblock snapshot create db@noon log@noon --for 7d'),
    example('What has changed since:', 'cellblock snapshot diff db@noon db'),
  ],
  'cellblock-clone': [example('A volume that continues a snapshot:', 'cellblock clone web@monday try-this')],
  'cellblock-sync': [
    example(
      'Bring a volume to the state of another; look first, then do it, then back again:',
      'cellblock sync test --from web@monday --dry-run\ncellblock sync test --from web@monday\ncellblock sync undo test',
    ),
  ],
  'cellblock-restore': [example('A volume as it was:', 'cellblock restore web@monday')],
  'cellblock-identity': [example('What is found in a volume:', 'cellblock identity show web')],
  'cellblock-vm': [
    example(
      'A virtual machine of two disks, and a snapshot of all of it:',
      'cellblock vm create shop --config shop.xml --disk vda=web --disk vdb=db\ncellblock vm snapshot shop@noon',
    ),
  ],
  'cellblock-attach': [
    example(
      'A volume as a block device, and a snapshot mounted:',
      'cellblock attach web\ncellblock attach web@monday --mount /mnt\ncellblock attach list',
    ),
  ],
  'cellblock-detach': [
    example('By its name or by its device:', 'cellblock detach web\ncellblock detach /dev/nbd0'),
  ],
  'cellblock-cell': [example('What is in a cell:', 'cellblock cell show east')],
  'cellblock-replica': [
    example('A second host gets every snapshot of a volume:', 'cellblock replica add web --host h2'),
  ],
  'cellblock-host': [
    example(
      'Empty a host before it is taken down:',
      'cellblock host drain h1 --dry-run\ncellblock host drain h1',
    ),
  ],
  'cellblock-move': [
    example(
      'What a move would send, then the move:',
      'cellblock move start web --to west --dry-run\ncellblock move start web --to west',
    ),
  ],
  'cellblock-route': [example('Why a volume is where it is:', 'cellblock route show web --explain')],
  'cellblock-quarantine': [
    example(
      'Decide which cell is right:',
      'cellblock quarantine list\ncellblock quarantine adopt web --cell east',
    ),
  ],
  'cellblock-serve-stdio': [
    example(
      'A volume of another host, with that of ssh as its only way in:',
      'nbdinfo -- [ ssh h1 cellblock serve-stdio web ]',
    ),
  ],
  'cellblock-status': [example('As JSON:', 'cellblock status --json')],
  'cellblock-store': [
    example('A copy of a store, without an agent:', 'cellblock store check --store ./copy'),
  ],
  'cellblock-task': [example('What takes long:', 'cellblock task list\ncellblock task cancel 7')],
  'cellblock-completion': [
    example(
      'For this bash, and for every fish:',
      'source <(cellblock completion bash)\ncellblock completion fish >~/.config/fish/completions/cellblock.fish',
    ),
  ],
};

export const AGENT_EXAMPLES: readonly Example[] = [
  example(
    'A store of one user, at sockets of their own:',
    'cellblockd --store ./store --api ./api.sock --nbd unix:./nbd.sock',
  ),
];

export const COORDINATOR_EXAMPLES: readonly Example[] = [
  example(
    'On one machine, with tokens:',
    'cellblock-coordinator --listen ws://127.0.0.1:7443 --state ./state --token ./tokens',
  ),
  example(
    'One of several, with certificates:',
    'cellblock-coordinator --listen wss://0.0.0.0:7443 --announce wss://c1:7443 --state etcd://e1:2379,e2:2379,e3:2379 --tls /etc/cellblock/tls',
  ),
];
