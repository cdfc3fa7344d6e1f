// A request on its way through the device, with what its reply needs. Pooled per reactor: none is allocated
// in the steady state.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "nbd/request.h"
#include "plane/buffer_pool.h"
#include "volume/device.h"

namespace cellblock::plane {

class Connection;

struct Operation : volume::Request {
  Connection* connection = nullptr;
  nbd::RequestHeader header;
  BufferRef buffer;                           // holds data
  std::vector<volume::StatusContext> chosen;  // block_status with a filter: contexts points here
  std::byte* room = nullptr;  // read in place: the reply's header goes here, right before data
  uint64_t received_ns = 0;
  uint64_t charge = 0;      // bytes counted against the connection's limit while the device has it
  bool pins_input = false;  // data is the receive block it came in
  bool logged = false;      // in the transaction log, where its reply belongs, too
};

class OperationPool {
 public:
  Operation* take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<Operation>());
      return all_.back().get();
    }
    Operation* operation = free_.back();
    free_.pop_back();
    return operation;
  }

  void give_back(Operation* operation) {
    operation->buffer.reset();
    operation->room = nullptr;
    operation->error = 0;
    operation->segments.clear();
    operation->contexts = nullptr;
    operation->chosen.clear();
    operation->pins_input = false;
    operation->logged = false;
    operation->next = nullptr;
    // Status lists can be megabytes.
    if (!operation->extents.empty()) operation->extents = {};
    if (operation->segments.capacity() > kKeptSegments) operation->segments = {};
    free_.push_back(operation);
  }

 private:
  static constexpr size_t kKeptSegments = 1024;
  std::vector<std::unique_ptr<Operation>> all_;
  std::vector<Operation*> free_;
};

}  // namespace cellblock::plane
