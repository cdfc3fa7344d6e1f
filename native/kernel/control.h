// A thread that talks to the kernel's nbd driver: requests one after the other, and what the driver reports
// of its own accord. Nothing here ever reads or writes a device, so it goes on whatever state a device is in.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "kernel/driver.h"

namespace cellblock::kernel {

struct ControlHooks {
  // Called on the thread. N of a device one of whose connections has died; none: reports were lost, it may be
  // any of them.
  std::function<void(std::optional<uint32_t>)> link_dead;
  // In place of open_netlink(), for tests.
  std::function<int()> open = open_netlink;
};

class Control {
 public:
  explicit Control(ControlHooks hooks) : hooks_(std::move(hooks)) {}
  ~Control() { stop(); }
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // Runs `work` on the thread, which is made for the first one. `error`: errno when the kernel has no netlink
  // for us, the driver is null then. After stop() nothing runs any more.
  using Work = std::function<void(Driver* driver, int error)>;
  void post(Work work);
  // Finishes what is queued, then ends. Idempotent.
  void stop();

 private:
  void run();
  bool wait();  // false: the end
  void work_off();
  void watch_events();
  void take_events();

  const ControlHooks hooks_;
  std::mutex mutex_;
  std::deque<Work> queue_;
  bool stopping_ = false;
  int wake_ = -1;
  std::thread thread_;

  // the thread's
  std::unique_ptr<Driver> driver_;
  Family family_;
  int events_ = -1;  // a socket in the driver's group
};

}  // namespace cellblock::kernel
