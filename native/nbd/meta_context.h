// The metadata contexts of an export and which of them a query names. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cellblock::nbd {

enum class MetaKind : uint8_t { allocation, depth, changed };

struct MetaContext {
  uint32_t id = 0;  // 0 in listings, 1.. once selected
  MetaKind kind = MetaKind::allocation;
  std::string snapshot;  // changed: since which
};

std::string context_name(const MetaContext& context);

// LIST: no query means all; `base:`, `qemu:` and `qemu:dirty-bitmap:` mean all behind them.
std::vector<MetaContext> list_contexts(const std::vector<std::string_view>& queries,
                                       const std::vector<std::string>& snapshots);

// SET: exact names only, wildcards and unknown names select nothing; ids count from 1.
std::vector<MetaContext> select_contexts(const std::vector<std::string_view>& queries,
                                         const std::vector<std::string>& snapshots);

}  // namespace cellblock::nbd
