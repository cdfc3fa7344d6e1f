// Whose turn it is: the connections of a reactor that have something to do, by volume. Deficit round robin,
// over the volumes and over the connections of each: a turn costs the bytes it moved and a constant for each
// request, who went beyond its quantum waits until the others have had as much. What a turn costs is known
// only behind it, so the deficit is a debt.
//
// Invariants: a debt counts against those who wait, and is forgotten where nobody does; while several volumes
// have connections here, a round gives each about a quantum and goes back to the loop, so a request that
// comes in waits for one turn of each other volume at most.
#pragma once

#include <cstdint>
#include <deque>

namespace cellblock::plane {

class Connection;
struct ServedDevice;

class Turns {
 public:
  // A turn of a quantum takes about 100 us, and the look at the sockets between two turns about 1 us.
  static constexpr int64_t kQuantum = 256 << 10;
  static constexpr int64_t kRequestCost = 8 << 10;  // what a request costs besides its bytes, in bytes
  // What is thrown away, of requests that are refused, costs so much more than what is of use: a client that
  // sends nothing else gets so much less of the reactor than one that works.
  static constexpr int64_t kDrainedCost = 16;
  static constexpr int64_t kMostDebt = 64 << 20;

  void add(Connection& connection);
  void remove(Connection& connection);
  void forget(ServedDevice& device);

  bool any() const { return !devices_.empty(); }
  // One round. `shared`: several volumes have connections here. True: somebody still has something to do.
  bool run(bool shared);

  // Takes out whose turn it is of those in line, who are not none.
  static Connection* next(std::deque<Connection*>& line);

 private:
  void serve(ServedDevice& device, bool shared, bool alone);
  static int64_t take_turn(Connection& connection);

  std::deque<ServedDevice*> devices_;
};

}  // namespace cellblock::plane
