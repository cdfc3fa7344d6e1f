// The order in which a range of numbered places is visited.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <bit>
#include <string>

namespace cellblock::bench {

class Pattern {
 public:
  enum Kind { kSequential, kRandom, kDistinct };

  static Kind named(const std::string& name) {
    if (name == "sequential") return kSequential;
    if (name == "random") return kRandom;
    if (name == "distinct") return kDistinct;
    fprintf(stderr, "nbd_client: unknown pattern %s\n", name.c_str());
    exit(1);
  }

  Pattern(Kind kind, uint64_t places, uint64_t seed)
      : kind_(kind), places_(places), state_(seed * 0x9E3779B97F4A7C15 + 0x1234567), seed_(state_) {
    half_bits_ = (static_cast<unsigned>(std::bit_width(places - 1)) + 1) / 2;
    if (half_bits_ == 0) half_bits_ = 1;
  }

  // The next place. `sequential` starts over at the end; `distinct` ends (false) when each place was given
  // once.
  bool next(uint64_t* place) {
    switch (kind_) {
      case kSequential:
        *place = next_++ % places_;
        return true;
      case kRandom:
        *place = static_cast<uint64_t>((static_cast<unsigned __int128>(random()) * places_) >> 64);
        return true;
      case kDistinct:
        if (next_ == places_) return false;
        // Numbers outside the range are sent on until they fall inside: a permutation of it remains.
        *place = next_++;
        do *place = permute(*place);
        while (*place >= places_);
        return true;
    }
    return false;
  }

 private:
  static uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
  }

  uint64_t random() { return mix(state_ += 0x9E3779B97F4A7C15); }

  // A four-round Feistel network over 2 * half_bits_ bits.
  uint64_t permute(uint64_t value) const {
    uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t next = left ^ (mix(right + seed_ + round * 0x5851F42D4C957F2D) & mask);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  Kind kind_;
  uint64_t places_, next_ = 0, state_, seed_;
  unsigned half_bits_;
};

}  // namespace cellblock::bench
