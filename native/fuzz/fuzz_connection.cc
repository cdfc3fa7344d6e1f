// Handshake and transmission as a whole, in clear; see run.h.
#include "fuzz/run.h"

namespace cellblock::fuzz {
namespace {

std::unique_ptr<Line> clear_line(test::Host& host, const Conversation&, size_t room) {
  return std::make_unique<ClearLine>(host, room);
}

}  // namespace
}  // namespace cellblock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cellblock::fuzz;
  const Session session = read_session({data, size});
  Run(session, {.tls = {}, .line = clear_line, .another = clear_line}).run();
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return cellblock::fuzz::mutate_input(data, size, max_size, seed, cellblock::fuzz::Way::clear, 0);
}
