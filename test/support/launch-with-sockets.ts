// Starts a program with listening sockets, as a service manager does (sd_listen_fds): the sockets are made in a shell's place by a
// few lines of Python, which become the program, so that LISTEN_PID is right.
import { Running } from './programs.js';

/** `kind`: what is made at `place`. A unix path, or PORT of 127.0.0.1 (or of all addresses, `*:PORT`). */
export interface Passed {
  name: string;
  kind: 'unix' | 'unix-connected' | 'unix-datagram' | 'tcp' | 'tcp-everywhere' | 'file';
  place: string;
}

const LAUNCHER = `
import json, os, socket, sys
passed, words, variables = json.loads(sys.argv[1])
kept = []
for one in passed:
    kind, place = one['kind'], one['place']
    if kind == 'file':
        fd = os.open(place, os.O_RDWR | os.O_CREAT)
    elif kind == 'unix-connected':
        kept.append(socket.socketpair())
        fd = kept[-1][0].fileno()
    else:
        tcp = kind.startswith('tcp')
        type = socket.SOCK_DGRAM if kind == 'unix-datagram' else socket.SOCK_STREAM
        made = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX, type)
        kept.append(made)
        made.bind(('0.0.0.0' if kind == 'tcp-everywhere' else '127.0.0.1', int(place)) if tcp else place)
        if type == socket.SOCK_STREAM:
            made.listen(16)
        fd = made.fileno()
    high = 100 + len(kept) + len(passed)
    one['fd'] = os.dup2(fd, high + passed.index(one), inheritable=True)
for index, one in enumerate(passed):
    os.dup2(one['fd'], 3 + index, inheritable=True)
    os.set_inheritable(one['fd'], False)
os.environ['LISTEN_PID'] = str(os.getpid())
os.environ['LISTEN_FDS'] = str(len(passed))
os.environ['LISTEN_FDNAMES'] = ':'.join(one['name'] for one in passed)
os.environ.update(variables)
os.execvp(words[0], words)
`;

/** `variables` take the place of those the launcher sets. */
export function launchWithSockets(
  passed: readonly Passed[],
  words: readonly string[],
  variables: Record<string, string> = {},
): Running {
  return new Running('python3', ['-c', LAUNCHER, JSON.stringify([passed, words, variables])]);
}
