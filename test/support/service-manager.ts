// A small service manager: listening sockets, a socket for notifications and a store of descriptors, which it passes to each program it
// starts as systemd does, the last kept first. Python, for what Node cannot pass on.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { repositoryRoot } from './programs.js';
import { until } from './waiting.js';

const MANAGER = `
import array, json, os, select, signal, socket, sys
spec = json.loads(sys.argv[1])
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(spec['notify'])
listening = []
for one in spec['sockets']:
    made = socket.socket(socket.AF_INET if one['path'].isdigit() else socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(('127.0.0.1', int(one['path'])) if one['path'].isdigit() else one['path'])
    made.listen(64)
    listening.append((one['name'], made.fileno(), made))
store = []
child = None

def say(**event):
    print(json.dumps(event), flush=True)

def start():
    global child
    passed = [(name, fd) for name, fd, _ in listening] + list(store)
    child = os.fork()
    if child: return say(event='started', pid=child, passed=[name for name, _ in passed])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    high = [os.dup2(fd, 500 + n) for n, (_, fd) in enumerate(passed)]
    for n, fd in enumerate(high): os.dup2(fd, 3 + n, inheritable=True)
    os.closerange(3 + len(high), 2000)
    os.environ.update(spec['variables'], NOTIFY_SOCKET=spec['notify'], LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)),
        LISTEN_FDNAMES=':'.join(name for name, _ in passed))
    os.execvp(spec['words'][0], spec['words'])

def hear():
    room = array.array('i')
    text, control, _, _ = notify.recvmsg(65536, socket.CMSG_SPACE(253 * room.itemsize))
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS): room.frombytes(data)
    lines = dict(line.split('=', 1) for line in text.decode().splitlines())
    name = lines.get('FDNAME', 'stored')
    if 'FDSTORE' in lines and spec['keeps']:
        for fd in room: store.insert(0, (name, fd))
    else:
        for fd in room: os.close(fd)
    if 'FDSTOREREMOVE' in lines:
        for one in [one for one in store if one[0] == name]:
            store.remove(one)
            os.close(one[1])
    say(event='message', lines=lines, descriptors=len(room))

start()
while True:
    ready, _, _ = select.select([notify, sys.stdin], [], [], 0.02)
    if notify in ready: hear()
    if child:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            while select.select([notify], [], [], 0)[0]: hear()
            child = None
            say(event='ended', code=os.waitstatus_to_exitcode(status), kept=len(store))
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line:
            if child: os.kill(child, signal.SIGKILL)
            break
        if line.strip() == 'start': start()
`;

export interface ServiceEvent {
  event: 'started' | 'message' | 'ended';
  pid: number;
  /** started: names of the descriptors it got */
  passed: string[];
  lines: Record<string, string>;
  descriptors: number;
  /** ended; negative: the signal */
  code: number;
  kept: number;
}

export interface Service {
  words: readonly string[];
  /** The notification socket. */
  notify: string;
  /** `path`: of a unix socket, or a port of loopback. */
  sockets: readonly { name: string; path: string }[];
  variables?: Record<string, string>;
  /** It has a store of descriptors. */
  keeps?: boolean;
  /** What stands before its own words, for it and its programs to run elsewhere. */
  entrance?: readonly string[];
}

export class TestServiceManager {
  readonly #child: ChildProcess;
  readonly events: ServiceEvent[] = [];
  stderr = '';

  constructor(
    t: Pick<Test, 'teardown'>,
    { variables = {}, keeps = true, entrance = [], ...service }: Service,
  ) {
    const own = ['python3', '-c', MANAGER, JSON.stringify({ ...service, variables, keeps })];
    const [program = '', ...words] = [...entrance, ...own];
    this.#child = spawn(program, words, {
      cwd: path.join(repositoryRoot),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdout, stderr } = this.#child;
    if (!stdout || !stderr) throw new Error('no pipes');
    createInterface(stdout).on('line', (text) => {
      // What the program prints itself comes by here, too.
      if (text.startsWith('{"event"')) this.events.push(JSON.parse(text) as ServiceEvent);
    });
    stderr.on('data', (bytes: Buffer) => {
      this.stderr = (this.stderr + bytes.toString()).slice(-20_000);
    });
    t.teardown(async () => {
      const ended = once(this.#child, 'exit');
      this.#child.stdin?.end();
      await ended;
    });
  }

  /** The first event from the `from`-th on that is so. */
  async event(what: string, is: (event: ServiceEvent) => boolean, from = 0): Promise<ServiceEvent> {
    const find = () => this.events.slice(from).find(is);
    await until(what, () => find() !== undefined);
    return find()!;
  }

  message(name: string, from = 0): Promise<ServiceEvent> {
    return this.event(
      `the message ${name}`,
      ({ event, lines }) => event === 'message' && name in lines,
      from,
    );
  }

  get pid(): number {
    return this.events.filter(({ event }) => event === 'started').at(-1)!.pid;
  }

  /** Ends the program by a signal; answers how it ended. */
  async end(signal: NodeJS.Signals): Promise<ServiceEvent> {
    const from = this.events.length;
    process.kill(this.pid, signal);
    return this.event('the end', ({ event }) => event === 'ended', from);
  }

  /** Starts it again, and waits until it is ready. Answers its start. */
  async start(): Promise<ServiceEvent> {
    const from = this.events.length;
    this.#child.stdin?.write('start\n');
    await this.message('READY', from);
    return this.event('the start', ({ event }) => event === 'started', from);
  }
}
