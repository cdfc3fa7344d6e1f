#include "fuzz/session.h"

#include <algorithm>

#include "base/bytes.h"
#include "test/tap.h"
#include "test/wire_bytes.h"

namespace cellblock::fuzz {
namespace {

using test::Random;

constexpr size_t kStepHead = 3;
constexpr size_t kMaxSteps = 400;
constexpr StepKind kPlainKinds[] = {
    StepKind::pump,           StepKind::complete,     StepKind::complete_last, StepKind::answer,
    StepKind::toggle_wait,    StepKind::toggle_later, StepKind::toggle_hold,   StepKind::toggle_reading,
    StepKind::toggle_failure, StepKind::end_sending,  StepKind::stop_serving,  StepKind::disconnect,
    StepKind::hang_up,
};
constexpr StepKind kWireKinds[] = {
    StepKind::cork,   StepKind::uncork,     StepKind::flip,        StepKind::remove,
    StepKind::replay, StepKind::key_update, StepKind::renegotiate, StepKind::farewell,
};

constexpr uint64_t kOffsets[] = {0,
                                 1,
                                 511,
                                 4095,
                                 4096,
                                 65536,
                                 (256 << 20) - 1,
                                 256 << 20,
                                 0x7fffffff,
                                 0xffffffff,
                                 uint64_t{1} << 62,
                                 INT64_MAX,
                                 INT64_MAX - 4096,
                                 UINT64_MAX,
                                 UINT64_MAX - 4095};
constexpr uint32_t kLengths[] = {0,          1,          16,         64,        128,        4096,
                                 8191,       65536,      65537,      131072,    (32 << 20), (32 << 20) + 1,
                                 0x7fffffff, 0x80000000, 0xffff0000, 0xffffffff};
// What only extended headers can say.
constexpr uint64_t kLongLengths[] = {uint64_t{1} << 32, (uint64_t{1} << 32) + 4096, uint64_t{1} << 62,
                                     INT64_MAX, UINT64_MAX};
constexpr uint16_t kPayload = nbd::kCommandPayloadLen;
const char* const kNames[] = {"", "disk", "huge", "missing", "disk@before", "secret"};
const char* const kQueries[] = {"base:",
                                "base:allocation",
                                "qemu:",
                                "qemu:allocation-depth",
                                "qemu:dirty-bitmap:",
                                "qemu:dirty-bitmap:before",
                                "other:x",
                                ""};

template <typename List>
auto pick(Random& random, const List& list) {
  return list[random.below(std::size(list))];
}

std::string random_option(Random& random) {
  const auto number = static_cast<nbd::Option>(random.between(1, 13));
  switch (number) {
    case nbd::Option::export_name:
      return test::option(number, pick(random, kNames));
    case nbd::Option::info:
    case nbd::Option::go: {
      std::vector<nbd::Info> infos;
      for (uint64_t n = random.below(5); n > 0; n--) infos.push_back(static_cast<nbd::Info>(random.below(5)));
      return test::go(pick(random, kNames), infos, number);
    }
    case nbd::Option::list_meta_context:
    case nbd::Option::set_meta_context: {
      std::vector<std::string> queries;
      for (uint64_t n = random.below(4); n > 0; n--) queries.emplace_back(pick(random, kQueries));
      return test::meta(number, pick(random, kNames), queries);
    }
    default:
      return test::option(number, std::string(random.chance(20) ? random.below(40) : 0, 'x'));
  }
}

std::string filtered_status(Random& random, uint64_t offset, uint64_t length, uint16_t flags) {
  std::string payload = test::be(length);
  for (uint64_t n = random.below(4); n > 0; n--)
    payload += test::be(static_cast<uint32_t>(random.below(random.chance(90) ? 4 : 70)));
  return test::extended_request(nbd::CommandType::block_status, 0, offset, payload.size(), flags | kPayload) +
         payload;
}

std::string random_request(Random& random, bool extended) {
  const auto type = static_cast<nbd::CommandType>(random.below(random.chance(90) ? 8 : 12));
  const uint32_t length =
      random.chance(70) ? static_cast<uint32_t>(random.below(9000)) : pick(random, kLengths);
  const uint64_t offset = random.chance(70) ? random.below(1 << 20) : pick(random, kOffsets);
  const uint16_t flags = random.chance(60) ? 0 : static_cast<uint16_t>(1 << random.below(7));
  if (!extended) return test::request(type, 0, offset, length, flags);
  const uint64_t longer = random.chance(80) ? length : pick(random, kLongLengths);
  if (random.chance(20)) return filtered_status(random, offset, longer, flags);
  const bool payload = type == nbd::CommandType::write || random.chance(5);
  std::string all =
      test::extended_request(type, 0, offset, longer, payload ? flags | kPayload : unsigned{flags});
  if (payload && longer <= 512) all.append(longer, 'p');
  return all;
}

bool speaks_extended(const Session& session) {
  static const std::string option = test::option(nbd::Option::extended_headers);
  return std::any_of(session.steps.begin(), session.steps.end(),
                     [](const Step& step) { return step.bytes.find(option) != std::string::npos; });
}

// A place where a message begins, so that its fields are hit more often than by chance; npos: none found.
size_t some_message(Random& random, const std::string& bytes, const std::string& magic) {
  std::vector<size_t> places;
  for (size_t at = bytes.find(magic); at != std::string::npos; at = bytes.find(magic, at + 1)) {
    places.push_back(at);
  }
  return places.empty() ? std::string::npos : places[random.below(places.size())];
}

template <typename T>
void put(std::string& bytes, size_t at, T value) {
  if (at + sizeof value <= bytes.size()) store_be<T>(bytes.data() + at, value);
}

void change_extended_field(Random& random, std::string& bytes, size_t at) {
  switch (random.below(5)) {
    case 0:
      return put<uint16_t>(bytes, at + 4, static_cast<uint16_t>(1 << random.below(8)));
    case 1:
      return put<uint16_t>(bytes, at + 6, static_cast<uint16_t>(random.below(10)));
    case 2:
      return put<uint64_t>(bytes, at + 16, pick(random, kOffsets));
    case 3:
      return put<uint64_t>(bytes, at + 24, pick(random, kLengths));
    default:
      return put<uint64_t>(bytes, at + 24, pick(random, kLongLengths));
  }
}

void change_field(Random& random, std::string& bytes) {
  if (const size_t at = some_message(random, bytes, test::be(nbd::kExtendedRequestMagic));
      at != std::string::npos) {
    return change_extended_field(random, bytes, at);
  }
  if (const size_t at = some_message(random, bytes, test::be(nbd::kRequestMagic)); at != std::string::npos) {
    switch (random.below(4)) {
      case 0:
        return put<uint16_t>(bytes, at + 4, static_cast<uint16_t>(1 << random.below(16)));
      case 1:
        return put<uint16_t>(bytes, at + 6, static_cast<uint16_t>(random.below(10)));
      case 2:
        return put<uint64_t>(bytes, at + 16, pick(random, kOffsets));
      default:
        return put<uint32_t>(bytes, at + 24, pick(random, kLengths));
    }
  }
  const size_t at = some_message(random, bytes, test::be(nbd::kOptionMagic));
  if (at == std::string::npos) return;
  if (random.chance(30)) return put<uint32_t>(bytes, at + 8, static_cast<uint32_t>(random.below(14)));
  // The option's length, or the first of its data, which mostly is one too.
  put<uint32_t>(bytes, at + (random.chance(50) ? 12 : 16),
                random.chance(50) ? static_cast<uint32_t>(random.below(64)) : pick(random, kLengths));
}

// A write whose payload is said by a fill, often not quite of its length.
void insert_write(Random& random, Session& session, size_t at, bool extended) {
  const uint16_t units = static_cast<uint16_t>(random.between(1, 2100));
  const uint32_t skew = random.chance(70) ? 0 : static_cast<uint32_t>(random.below(3 * Session::kFillUnit));
  const uint32_t length = units * static_cast<uint32_t>(Session::kFillUnit) + skew;
  const auto type = nbd::CommandType::write;
  const uint64_t offset = random.below(1 << 20);
  const Step head{StepKind::send, 0,
                  extended ? test::extended_request(type, 0, offset, length, kPayload)
                           : test::request(type, 0, offset, length)};
  const Step payload{StepKind::fill, units, {}};
  session.steps.insert(session.steps.begin() + static_cast<ptrdiff_t>(at), {head, payload});
}

// What is in clear where TLS should be: options, requests, and the front of records of TLS.
std::string random_injection(Random& random) {
  switch (random.below(4)) {
    case 0:
      return random_option(random);
    case 1:
      return random_request(random, random.chance(30));
    default: {
      constexpr uint8_t kRecordTypes[] = {20, 21, 22, 23};
      const size_t length = random.below(40);
      std::string record{static_cast<char>(pick(random, kRecordTypes)), 3,
                         static_cast<char>(random.chance(80) ? 3 : random.below(6))};
      record += test::be(static_cast<uint16_t>(random.chance(80) ? length : random.below(1 << 16)));
      for (size_t i = 0; i < length; i++)
        record += static_cast<char>(random.below(random.chance(50) ? 4 : 256));
      return record;
    }
  }
}

Step random_wire_step(Random& random) {
  if (random.chance(25)) return {StepKind::inject, 0, random_injection(random)};
  const uint64_t reach = random.chance(50) ? 600 : 1 << 16;
  return {pick(random, kWireKinds), static_cast<uint16_t>(random.below(reach)), {}};
}

}  // namespace

Session read_session(std::span<const uint8_t> bytes) {
  Session session;
  if (bytes.empty()) return session;
  session.settings = bytes[0];
  bytes = bytes.subspan(1);
  while (bytes.size() >= kStepHead && session.steps.size() < kMaxSteps) {
    Step step;
    step.kind = static_cast<StepKind>(bytes[0] % (static_cast<unsigned>(StepKind::last) + 1));
    step.value = load_le<uint16_t>(bytes.data() + 1);
    bytes = bytes.subspan(kStepHead);
    if (has_bytes(step.kind)) {
      const size_t length = std::min<size_t>(step.value, bytes.size());
      step.bytes.assign(reinterpret_cast<const char*>(bytes.data()), length);
      bytes = bytes.subspan(length);
    }
    session.steps.push_back(std::move(step));
  }
  return session;
}

std::vector<uint8_t> write_session(const Session& session) {
  std::vector<uint8_t> bytes{session.settings};
  for (const Step& step : session.steps) {
    const size_t at = bytes.size();
    const bool sends = has_bytes(step.kind);
    const size_t length = std::min<size_t>(step.bytes.size(), UINT16_MAX);
    bytes.resize(at + kStepHead);
    bytes[at] = static_cast<uint8_t>(step.kind);
    store_le<uint16_t>(bytes.data() + at + 1, sends ? static_cast<uint16_t>(length) : step.value);
    if (sends)
      bytes.insert(bytes.end(), step.bytes.begin(), step.bytes.begin() + static_cast<ptrdiff_t>(length));
  }
  return bytes;
}

void mutate(Session& session, uint32_t seed, Way way) {
  Random random(seed);
  const bool extended = speaks_extended(session) != random.chance(5);
  std::vector<Step>& steps = session.steps;
  const size_t at = random.below(steps.size() + 1);  // where to insert
  const auto place = steps.begin() + static_cast<ptrdiff_t>(at);
  const size_t which = steps.empty() ? 0 : random.below(steps.size());  // which to change
  if (way == Way::tls && random.chance(25)) {
    steps.insert(place, random_wire_step(random));
    return;
  }
  switch (steps.empty() ? random.below(4) : random.below(11)) {
    case 0:
      steps.insert(place, {StepKind::send, 0, random_option(random)});
      return;
    case 1:  // mostly behind what there is: before, the client may not be in transmission yet
      steps.insert(random.chance(70) ? steps.end() : place,
                   {StepKind::send, 0, random_request(random, extended)});
      return;
    case 2:
      return insert_write(random, session, at, extended);
    case 3:
      steps.insert(place, {pick(random, kPlainKinds), static_cast<uint16_t>(random.below(9)), {}});
      return;
    case 4:
      steps.erase(steps.begin() + static_cast<ptrdiff_t>(which));
      return;
    case 5:
      std::swap(steps[which], steps[random.below(steps.size())]);
      return;
    case 6: {  // said many times
      const Step step = steps[which];
      steps.insert(place, random.between(1, 20), step);
      return;
    }
    case 7: {  // cut in two
      Step& step = steps[which];
      if (step.bytes.size() < 2) return;
      const size_t cut = random.between(1, step.bytes.size() - 1);
      Step rest{StepKind::send, 0, step.bytes.substr(cut)};
      step.bytes.resize(cut);
      steps.insert(steps.begin() + static_cast<ptrdiff_t>(which) + 1, std::move(rest));
      return;
    }
    case 8: {  // joined: arrives in one piece
      if (which + 1 >= steps.size() || steps[which].kind != StepKind::send) return;
      if (steps[which + 1].kind != StepKind::send) return;
      if (steps[which].bytes.size() + steps[which + 1].bytes.size() > UINT16_MAX) return;
      steps[which].bytes += steps[which + 1].bytes;
      steps.erase(steps.begin() + static_cast<ptrdiff_t>(which) + 1);
      return;
    }
    case 9:
      session.settings ^= static_cast<uint8_t>(1 << random.below(8));
      return;
    default:
      change_field(random, steps[which].bytes);
  }
}

}  // namespace cellblock::fuzz
