#include "kernel/control.h"

#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

namespace cellblock::kernel {
namespace {

constexpr size_t kEventBytes = 16 << 10;

}  // namespace

void Control::post(Work work) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  queue_.push_back(std::move(work));
  if (!thread_.joinable()) {
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    thread_ = std::thread([this] { run(); });
  }
  eventfd_write(wake_, 1);
}

void Control::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (wake_ >= 0) eventfd_write(wake_, 1);
  }
  if (thread_.joinable()) thread_.join();
  if (wake_ >= 0) close(std::exchange(wake_, -1));
}

void Control::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "nbd-control");
  while (wait()) work_off();
  driver_.reset();
  if (events_ >= 0) close(std::exchange(events_, -1));
}

bool Control::wait() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (!queue_.empty()) return true;
      if (stopping_) return false;
    }
    pollfd watched[] = {{wake_, POLLIN, 0}, {events_, POLLIN, 0}};
    if (poll(watched, 2, -1) < 0 && errno != EINTR) return false;
    eventfd_t ignored;
    if (watched[0].revents) eventfd_read(wake_, &ignored);
    if (watched[1].revents) take_events();
  }
}

void Control::work_off() {
  std::deque<Work> works;
  {
    std::lock_guard lock(mutex_);
    works.swap(queue_);
  }
  int error = 0;
  if (!driver_) {
    const int fd = hooks_.open();
    if (fd >= 0)
      driver_ = std::make_unique<Driver>(fd);
    else
      error = -fd;
  }
  // Before a device is made: nothing it reports is missed.
  if (driver_) watch_events();
  for (Work& work : works) work(driver_.get(), error);
}

// The group has another number when the driver was loaded anew.
void Control::watch_events() {
  Family now;
  if (driver_->look_up(now).error || !now.events) return;
  if (events_ >= 0 && now.id == family_.id && now.events == family_.events) return;
  if (events_ >= 0) close(std::exchange(events_, -1));
  family_ = now;
  events_ = hooks_.open();
  const uint32_t group = *now.events;
  if (events_ >= 0) setsockopt(events_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
}

void Control::take_events() {
  std::string room(kEventBytes, '\0');
  for (;;) {
    const ssize_t got = recv(events_, room.data(), room.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {
      hooks_.link_dead(std::nullopt);
      continue;
    }
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) close(std::exchange(events_, -1));
      return;
    }
    MessageReader messages({room.data(), static_cast<size_t>(got)});
    for (Message message; messages.next(message);) {
      if (const auto index = parse_link_dead(family_, message)) hooks_.link_dead(index);
    }
  }
}

}  // namespace cellblock::kernel
