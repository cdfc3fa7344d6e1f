// Talking to the driver: a kernel played on the other end of a socket pair, which answers late, twice, with
// an error, with nothing or with nonsense, and reports dead links.
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "kernel/control.h"
#include "kernel/driver.h"
#include "test/tap.h"

using namespace cellblock;
using namespace cellblock::kernel;
using namespace cellblock::test;

namespace {

constexpr uint16_t kFamily = 0x1c;

std::string raw_message(uint16_t type, uint32_t sequence, const std::string& payload) {
  std::string bytes(16, '\0');
  bytes += payload;
  store_le<uint32_t>(bytes.data(), static_cast<uint32_t>(bytes.size()));
  store_le<uint16_t>(bytes.data() + 4, type);
  store_le<uint32_t>(bytes.data() + 8, sequence);
  return bytes;
}

std::string verdict(uint32_t sequence, int error) {
  std::string payload(20, '\0');
  store_le<int32_t>(payload.data(), -error);
  return raw_message(NLMSG_ERROR, sequence, payload);
}

std::string family_answer(uint32_t sequence) {
  std::string payload(4, '\0');
  payload[0] = CTRL_CMD_NEWFAMILY;
  std::string id(8, '\0');
  store_le<uint16_t>(id.data(), 6);
  store_le<uint16_t>(id.data() + 2, CTRL_ATTR_FAMILY_ID);
  store_le<uint16_t>(id.data() + 4, kFamily);
  return raw_message(GENL_ID_CTRL, sequence, payload + id);
}

std::string connected_answer(uint32_t sequence, uint32_t index) {
  return MessageWriter(kFamily, NBD_CMD_CONNECT, 0, sequence).u32(NBD_ATTR_INDEX, index).finish();
}

// Answers each request with the datagrams of `answer`; requests for the family by itself, unless it is not
// there.
class Kernel {
 public:
  using Answer = std::function<std::vector<std::string>(const Message&)>;
  explicit Kernel(Answer answer, bool has_driver = true)
      : answer_(std::move(answer)), has_driver_(has_driver) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
    theirs = ends[0];
    ours_ = ends[1];
    thread_ = std::thread([this] { serve(); });
  }
  ~Kernel() {
    shutdown(ours_, SHUT_RDWR);
    thread_.join();
    close(ours_);
  }

  int theirs;  // the driver's end, which closes it

 private:
  void serve() {
    char room[4096];
    for (ssize_t got; (got = recv(ours_, room, sizeof room, 0)) > 0;) {
      MessageReader reader({room, static_cast<size_t>(got)});
      Message message;
      if (!reader.next(message)) continue;
      for (const std::string& datagram : answers_to(message))
        send(ours_, datagram.data(), datagram.size(), MSG_NOSIGNAL);
    }
  }
  std::vector<std::string> answers_to(const Message& message) {
    if (message.type != GENL_ID_CTRL) return answer_(message);
    if (!has_driver_) return {verdict(message.sequence, ENOENT)};
    return {family_answer(message.sequence), verdict(message.sequence, 0)};
  }

  Answer answer_;
  bool has_driver_;
  int ours_;
  std::thread thread_;
};

}  // namespace

TAP_TEST("a device is connected: the answer says which, the verdict that it is there") {
  Kernel kernel([](const Message& message) -> std::vector<std::string> {
    return {connected_answer(message.sequence, 7), verdict(message.sequence, 0)};
  });
  Driver driver(kernel.theirs);
  uint32_t index = 0;
  TAP_EQ(driver.connect({}, index).error, 0, "connected");
  TAP_EQ(index, 7u, "as nbd7");
}

TAP_TEST("answer and verdict in one datagram, and an old answer before them") {
  Kernel kernel([](const Message& message) -> std::vector<std::string> {
    return {verdict(message.sequence - 1, EIO),
            connected_answer(message.sequence, 2) + verdict(message.sequence, 0)};
  });
  Driver driver(kernel.theirs);
  uint32_t index = 0;
  TAP_EQ(driver.connect({}, index).error, 0, "connected");
  TAP_EQ(index, 2u, "as nbd2");
}

TAP_TEST("a kernel without the driver is told apart from one that refuses") {
  Kernel without([](const Message&) -> std::vector<std::string> { return {}; }, false);
  Driver none(without.theirs);
  uint32_t index = 0;
  TAP_EQ(none.connect({}, index).error, EPROTONOSUPPORT, "no driver");
  Kernel refusing(
      [](const Message& message) -> std::vector<std::string> { return {verdict(message.sequence, ENOENT)}; });
  Driver driver(refusing.theirs);
  TAP_EQ(driver.connect({}, index).error, ENOENT, "refused");
  TAP_EQ(driver.reconfigure({}).error, ENOENT, "refused");
  TAP_EQ(driver.disconnect(3).error, ENOENT, "refused");
}

TAP_TEST("nonsense is an error and no device") {
  const std::vector<std::function<std::vector<std::string>(const Message&)>> kernels = {
      [](const Message& message) -> std::vector<std::string> { return {verdict(message.sequence, 0)}; },
      [](const Message&) -> std::vector<std::string> { return {std::string(9, 'x')}; },
      [](const Message& message) -> std::vector<std::string> {
        return {raw_message(NLMSG_ERROR, message.sequence, "xx")};
      },
      [](const Message& message) -> std::vector<std::string> {
        return {raw_message(kFamily, message.sequence, "x")};
      },
      [](const Message& message) -> std::vector<std::string> {
        std::string cut = connected_answer(message.sequence, 7);
        store_le<uint16_t>(cut.data() + 20, 200);
        return {cut};
      },
  };
  for (const auto& answer : kernels) {
    Kernel kernel(answer);
    Driver driver(kernel.theirs);
    uint32_t index = 0;
    TAP_EQ(driver.connect({}, index).error, EPROTO, "not believed");
  }
}

TAP_TEST("a kernel that has gone ends the wait") {
  auto kernel = std::make_unique<Kernel>([](const Message&) -> std::vector<std::string> { return {}; });
  Driver driver(kernel->theirs);
  kernel.reset();
  TAP_OK(driver.disconnect(0).error != 0, "an error");
}

TAP_TEST("the thread does what it is given, in order, and what is left at the end") {
  Kernel kernel(
      [](const Message& message) -> std::vector<std::string> { return {verdict(message.sequence, 0)}; });
  std::vector<int> done;
  Control control({[](std::optional<uint32_t>) {}, [&] { return kernel.theirs; }});
  for (int i = 0; i < 3; i++) {
    control.post([&, i](Driver* driver, int) {
      TAP_OK(driver && driver->disconnect(0).error == 0, "asked");
      done.push_back(i);
    });
  }
  control.stop();
  TAP_EQ(done.size(), 3u, "all of them");
  TAP_OK(done[0] == 0 && done[2] == 2, "in order");
  control.post([&](Driver*, int) { done.push_back(9); });
  TAP_EQ(done.size(), 3u, "nothing afterwards");
}

TAP_TEST("without netlink every work is told why") {
  int told = 0;
  {
    Control control({[](std::optional<uint32_t>) {}, [] { return -EPERM; }});
    control.post([&](Driver* driver, int error) { told = driver ? -1 : error; });
  }
  TAP_EQ(told, EPERM, "the reason");
}

int main() { return run(); }
