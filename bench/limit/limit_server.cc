// The limit: the least an NBD server can do. One thread per connection, one flat file, pread and pwrite,
// replies sent in batches; no maps, no journal, no check of any range. It shows what the socket and the page
// cache of a machine give, so that a real server can be held against it. It is a measuring stick: never serve
// anything you care about with it.
//
//   limit_server FILE SOCKET      prints "ready" when it listens, serves until it is killed
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kOptionMagic = 0x49484156454F5054;
constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kReplyMagic = 0x67446698;
// HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN
constexpr uint16_t kTransmissionFlags = 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x100;
constexpr uint16_t kCommandFlagFua = 1;

// What one pread, pwrite, recv or send moves at most: it stays in the second-level cache.
constexpr size_t kChunkBytes = 256 << 10;
constexpr size_t kReplyBytes = 16;
constexpr size_t kRequestBytes = 28;

struct File {
  int fd;
  uint64_t size;
};

template <typename T>
T take_be(const uint8_t* from) {
  T value;
  memcpy(&value, from, sizeof value);
  if constexpr (sizeof(T) == 8) return be64toh(value);
  if constexpr (sizeof(T) == 4) return be32toh(value);
  return be16toh(value);
}

void append_be(std::string& to, uint64_t value, size_t bytes) {
  for (size_t i = bytes; i-- > 0;) to.push_back(static_cast<char>(value >> (8 * i)));
}

bool send_all(int socket, const void* data, size_t bytes) {
  auto* at = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    ssize_t sent = send(socket, at, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool recv_all(int socket, void* data, size_t bytes) {
  return bytes == 0 || recv(socket, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
}

// Answers options until the client enters transmission; every export name means the one file.
bool negotiate(int socket, const File& file) {
  std::string out;
  append_be(out, 0x4e42444d41474943, 8);
  append_be(out, kOptionMagic, 8);
  append_be(out, 3, 2);  // fixed newstyle, no zeroes
  uint8_t client_flags[4];
  if (!send_all(socket, out.data(), out.size()) || !recv_all(socket, client_flags, 4)) return false;
  bool no_zeroes = (client_flags[3] & 2) != 0;

  for (;;) {
    uint8_t header[16];
    if (!recv_all(socket, header, sizeof header) || take_be<uint64_t>(header) != kOptionMagic) return false;
    uint32_t option = take_be<uint32_t>(header + 8);
    std::vector<uint8_t> data(take_be<uint32_t>(header + 12));
    if (data.size() > 65536 || !recv_all(socket, data.data(), data.size())) return false;

    out.clear();
    auto reply = [&](uint32_t type, uint32_t bytes) {
      append_be(out, kOptionReplyMagic, 8);
      append_be(out, option, 4);
      append_be(out, type, 4);
      append_be(out, bytes, 4);
    };
    if (option == 1) {  // EXPORT_NAME
      append_be(out, file.size, 8);
      append_be(out, kTransmissionFlags, 2);
      if (!no_zeroes) out.append(124, '\0');
      return send_all(socket, out.data(), out.size());
    }
    if (option == 7 || option == 6) {  // GO, INFO
      reply(3, 12);
      append_be(out, 0, 2);
      append_be(out, file.size, 8);
      append_be(out, kTransmissionFlags, 2);
      reply(1, 0);
    } else if (option == 2) {  // ABORT
      reply(1, 0);
    } else {
      reply(0x80000001, 0);
    }
    if (!send_all(socket, out.data(), out.size()) || option == 2) return false;
    if (option == 7) return true;
  }
}

class Connection {
 public:
  Connection(int socket, const File& file)
      : socket_(socket), file_(file), in_(kChunkBytes), out_(2 * kChunkBytes) {}

  void serve() {
    while (receive()) {
      while (step()) {
      }
      if (closed_ || !flush_replies()) return;
    }
  }

 private:
  // Bytes go behind what is left of the last batch, which is less than one request header.
  bool receive() {
    size_t left = in_end_ - in_at_;
    if (in_at_ > 0) memmove(in_.data(), in_.data() + in_at_, left);
    in_at_ = 0;
    ssize_t got;
    do got = recv(socket_, in_.data() + left, in_.size() - left, 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return false;
    in_end_ = left + static_cast<size_t>(got);
    return true;
  }

  // Does the next piece of work that the buffered input allows; false when it needs more input.
  bool step() {
    if (write_left_ > 0) return write_some();
    if (in_end_ - in_at_ < kRequestBytes) return false;
    const uint8_t* request = in_.data() + in_at_;
    if (take_be<uint32_t>(request) != kRequestMagic) return close_now();
    flags_ = take_be<uint16_t>(request + 4);
    uint16_t command = take_be<uint16_t>(request + 6);
    memcpy(cookie_, request + 8, sizeof cookie_);
    uint64_t offset = take_be<uint64_t>(request + 16);
    uint32_t length = take_be<uint32_t>(request + 24);
    in_at_ += kRequestBytes;

    switch (command) {
      case 0:
        return read(offset, length);
      case 1:
        write_offset_ = offset;
        write_left_ = length;
        write_error_ = 0;
        return length > 0 || reply(0);
      case 2:
        return close_now();
      case 3:
        return reply(fdatasync(file_.fd) == 0 ? 0 : EIO);
      case 4:
      case 6:
        return reply(punch(offset, length) == 0 ? finish_fua() : EIO);
      default:
        return reply(EINVAL);
    }
  }

  int punch(uint64_t offset, uint32_t length) {
    return fallocate(file_.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     length);
  }

  // The payload goes to the file as it arrives, so it is never moved in memory.
  bool write_some() {
    size_t here = std::min<size_t>(in_end_ - in_at_, write_left_);
    if (here == 0) return false;
    if (pwrite(file_.fd, in_.data() + in_at_, here, static_cast<off_t>(write_offset_)) !=
        static_cast<ssize_t>(here)) {
      write_error_ = EIO;
    }
    in_at_ += here;
    write_offset_ += here;
    write_left_ -= static_cast<uint32_t>(here);
    return write_left_ > 0 || reply(write_error_ != 0 ? write_error_ : finish_fua());
  }

  uint32_t finish_fua() { return (flags_ & kCommandFlagFua) == 0 || fdatasync(file_.fd) == 0 ? 0 : EIO; }

  bool read(uint64_t offset, uint32_t length) {
    if (!reply(0)) return false;
    while (length > 0) {
      size_t here = std::min<size_t>(length, kChunkBytes);
      if (out_end_ + here > out_.size() && !flush_replies()) return close_now();
      if (pread(file_.fd, out_.data() + out_end_, here, static_cast<off_t>(offset)) !=
          static_cast<ssize_t>(here)) {
        return close_now();
      }
      out_end_ += here;
      offset += here;
      length -= static_cast<uint32_t>(here);
    }
    return true;
  }

  bool reply(uint32_t error) {
    if (out_end_ + kReplyBytes > kChunkBytes && !flush_replies()) return close_now();
    uint32_t words[2] = {htobe32(kReplyMagic), htobe32(error)};
    memcpy(out_.data() + out_end_, words, sizeof words);
    memcpy(out_.data() + out_end_ + 8, cookie_, sizeof cookie_);
    out_end_ += kReplyBytes;
    return true;
  }

  bool flush_replies() {
    bool sent = out_end_ == 0 || send_all(socket_, out_.data(), out_end_);
    out_end_ = 0;
    return sent;
  }

  bool close_now() {
    closed_ = true;
    return false;
  }

  int socket_;
  const File& file_;
  std::vector<uint8_t> in_, out_;
  size_t in_at_ = 0, in_end_ = 0, out_end_ = 0;
  uint64_t write_offset_ = 0;
  uint32_t write_left_ = 0, write_error_ = 0;
  uint16_t flags_ = 0;
  uint8_t cookie_[8] = {};
  bool closed_ = false;
};

void serve_client(int socket, const File& file) {
  int bytes = 4 << 20;
  // FORCE needs privilege; without it the machine's default limit stays.
  if (setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    (void)setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  if (negotiate(socket, file)) Connection(socket, file).serve();
  close(socket);
}

int fail(const char* what) {
  fprintf(stderr, "limit_server: %s: %s\n", what, strerror(errno));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: limit_server FILE SOCKET\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  File file{open(argv[1], O_RDWR | O_CLOEXEC), 0};
  struct stat status;
  if (file.fd < 0 || fstat(file.fd, &status) != 0) return fail(argv[1]);
  file.size = static_cast<uint64_t>(status.st_size);

  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(argv[2]) >= sizeof address.sun_path) {
    fprintf(stderr, "limit_server: %s: a socket path has at most 107 bytes\n", argv[2]);
    return 2;
  }
  strcpy(address.sun_path, argv[2]);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 64) != 0) {
    return fail(argv[2]);
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (client < 0) return fail("accept");
    std::thread(serve_client, client, std::cref(file)).detach();
  }
}
