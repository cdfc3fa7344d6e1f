"""An export of an NBD server over TCP as /dev/nbdN of the kernel, with new connections whenever one ends: what `cellblock attach` does for
the agent of its own machine, for one on another machine. Messages of the kernel's generic netlink family "nbd" (linux/nbd-netlink.h).

    python3 relink.py HOST PORT EXPORT INDEX CONNECTIONS IO_TIMEOUT DEAD_TIMEOUT

Prints "connected", and "again" for each time it has connected anew. Ends by a signal, which ends the device.
"""
import select, signal, socket, struct, sys, time

HOST, PORT, EXPORT = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
INDEX, CONNECTIONS, IO_TIMEOUT, DEAD_TIMEOUT = map(int, sys.argv[4:8])
CONNECT, DISCONNECT, RECONFIGURE = 1, 2, 3
TRY_AGAIN_S = 0.01


def attribute(kind, payload):
    return struct.pack('=HH', 4 + len(payload), kind) + payload + b'\0' * (-len(payload) % 4)


class Family:
    def __init__(self, name):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        self.socket.bind((0, 0))
        reply = self.ask(16, 3, attribute(2, name + b'\0'), 0)[20:]
        while reply:
            length, kind = struct.unpack_from('=HH', reply)
            if kind == 1: self.id, = struct.unpack_from('=H', reply, 4)
            reply = reply[(length + 3) & ~3:]

    def ask(self, family, command, payload, flags=4):
        self.socket.send(struct.pack('=IHHII', 20 + len(payload), family, 1 | flags, 1, 0) + struct.pack('=BBH', command, 1, 0) + payload)
        answer = self.socket.recv(65536)
        if struct.unpack_from('=H', answer, 4)[0] == 2:
            code, = struct.unpack_from('=i', answer, 16)
            if code: raise OSError(-code, f'netlink: {-code}')
        return answer

    def tell(self, command, *attributes):
        # To a CONNECT there is an answer, to the others only the acknowledgement that is asked for.
        self.ask(self.id, command, b''.join(attributes), 0 if command == CONNECT else 4)


def exactly(one, count):
    taken = b''
    while len(taken) < count:
        part = one.recv(count - len(taken))
        if not part: raise ConnectionError('ended in the handshake')
        taken += part
    return taken


def connected():
    """A connection in transmission, the size of the export, its flags."""
    one = socket.create_connection((HOST, PORT), timeout=5)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    exactly(one, 18)
    one.sendall(struct.pack('>I', 3) + struct.pack('>8sII', b'IHAVEOPT', 7, 6 + len(EXPORT)) + struct.pack('>I', len(EXPORT)) + EXPORT + b'\0\0')
    while True:
        _, _, kind, length = struct.unpack('>QIII', exactly(one, 20))
        content = exactly(one, length)
        if kind & 1 << 31: raise ConnectionError(f'refused: {content.decode(errors="replace")}')
        if kind == 3 and content[:2] == b'\0\0': size, flags = struct.unpack_from('>QH', content, 2)
        if kind == 1: break
    one.settimeout(None)
    return one, size, flags


def until_connected():
    while True:
        try: return connected()
        except OSError: time.sleep(TRY_AGAIN_S)


def sockets(all):
    return attribute(7, b''.join(attribute(1, attribute(1, struct.pack('=I', one.fileno()))) for one in all))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
family = Family(b'nbd')
index = attribute(1, struct.pack('=I', INDEX))
made = [until_connected() for _ in range(CONNECTIONS)]
links = [one for one, _, _ in made]
number = lambda kind, value: attribute(kind, struct.pack('=Q', value))
_, size, flags = made[0]
family.tell(CONNECT, index, number(2, size), number(3, 4096), number(4, IO_TIMEOUT), number(5, flags), number(8, DEAD_TIMEOUT), sockets(links))
print('connected', flush=True)
try:
    while True:
        watch = select.poll()
        for one in links: watch.register(one, select.POLLRDHUP)
        dead = {descriptor for descriptor, _ in watch.poll()}
        links = [one for one in links if one.fileno() not in dead]
        new = [until_connected()[0] for _ in dead]
        family.tell(RECONFIGURE, index, sockets(new))
        links += new
        print('again', flush=True)
finally:
    family.tell(DISCONNECT, index)
