#include "plane/turns.h"

#include <algorithm>

#include "plane/connection.h"
#include "plane/reactor.h"

namespace cellblock::plane {

void Turns::add(Connection& connection) {
  if (std::exchange(connection.in_run_queue, true)) return;
  ServedDevice& device = connection.served();
  device.runnable.push_back(&connection);
  if (!std::exchange(device.has_turn, true)) devices_.push_back(&device);
}

void Turns::remove(Connection& connection) {
  if (std::exchange(connection.in_run_queue, false)) std::erase(connection.served().runnable, &connection);
}

void Turns::forget(ServedDevice& device) { std::erase(devices_, &device); }

bool Turns::run(bool shared) {
  const bool alone = devices_.size() == 1;
  for (size_t left = devices_.size(); left > 0; left--) {
    ServedDevice& device = *devices_.front();
    devices_.pop_front();
    serve(device, shared, alone);
    device.has_turn = !device.runnable.empty();
    if (device.has_turn) devices_.push_back(&device);
  }
  return !devices_.empty();
}

void Turns::serve(ServedDevice& device, bool shared, bool alone) {
  if (!shared) {
    // Nobody could come in between: everybody once, without looking at the sockets again.
    for (size_t left = device.runnable.size(); left > 0 && !device.runnable.empty(); left--) {
      Connection* const connection = device.runnable.front();
      device.runnable.pop_front();
      take_turn(*connection);
    }
    device.credit = 0;
    return;
  }
  device.credit = alone ? kQuantum : std::min(device.credit + kQuantum, kQuantum);
  while (device.credit > 0 && !device.runnable.empty()) {
    device.credit -= take_turn(*next(device.runnable));
  }
  if (device.runnable.empty()) device.credit = std::min<int64_t>(device.credit, 0);
}

int64_t Turns::take_turn(Connection& connection) {
  connection.in_run_queue = false;
  return std::max(connection.run(), kRequestCost);
}

Connection* Turns::next(std::deque<Connection*>& line) {
  for (;;) {
    Connection* const first = line.front();
    line.pop_front();
    if (line.empty()) first->credit = kQuantum;
    // What is left of a quantum is used up first: whoever waits for something else in between gains nothing
    // by it.
    if (first->credit <= 0) first->credit += kQuantum;
    if (first->credit > 0) return first;
    line.push_back(first);
  }
}

}  // namespace cellblock::plane
