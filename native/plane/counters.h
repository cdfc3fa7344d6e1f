// What the wire counts per device, for metrics. Written by the device's home reactor alone, read by any
// thread: so plain relaxed loads and stores, no locked instruction.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "volume/device.h"

namespace cellblock::plane {

constexpr unsigned kKinds = 7;     // as volume::Command
constexpr unsigned kBuckets = 32;  // bucket 0: below 1 us; bucket b: [2^(b-1), 2^b) us; the last is open

// One writer at a time.
class Counter {
 public:
  void add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct KindCounters {
  Counter requests;
  Counter bytes;  // of successful requests
  Counter errors;
  Counter microseconds;  // sum of the latencies in buckets
  std::array<Counter, kBuckets> buckets;
};

struct DeviceCounters {
  Counter opened;  // connections that entered transmission, and those of them that ended
  Counter closed;
  Counter throttled;  // requests that waited for a limit of the volume, and how long they did
  Counter throttled_microseconds;
  std::array<KindCounters, kKinds> kinds;

  // `requests` that took `ns` each, from the receipt of their bytes to the hand-over of their replies.
  void record(unsigned kind, uint64_t requests, uint64_t ns) {
    const uint64_t us = ns / 1000;
    const unsigned bucket = static_cast<unsigned>(std::bit_width(us));
    kinds[kind].buckets[bucket < kBuckets ? bucket : kBuckets - 1].add(requests);
    kinds[kind].microseconds.add(us * requests);
  }
};

// A copy for readers.
struct DeviceSnapshot {
  struct Kind {
    uint64_t requests = 0, bytes = 0, errors = 0, microseconds = 0;
    std::array<uint64_t, kBuckets> buckets{};
  };
  volume::Device* device = nullptr;
  uint64_t connections = 0;
  uint64_t throttled = 0, throttled_microseconds = 0;
  std::array<Kind, kKinds> kinds;
};

}  // namespace cellblock::plane
