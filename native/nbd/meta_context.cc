#include "nbd/meta_context.h"

#include <algorithm>
#include <unordered_set>

namespace cellblock::nbd {
namespace {

constexpr std::string_view kBase = "base:";
constexpr std::string_view kQemu = "qemu:";
constexpr std::string_view kAllocation = "base:allocation";
constexpr std::string_view kDepth = "qemu:allocation-depth";
constexpr std::string_view kChanged = "qemu:dirty-bitmap:";

// Every context of the export, in the order they are offered.
std::vector<MetaContext> all_contexts(const std::vector<std::string>& snapshots) {
  std::vector<MetaContext> all{{0, MetaKind::allocation, {}}, {0, MetaKind::depth, {}}};
  for (const std::string& snapshot : snapshots) all.push_back({0, MetaKind::changed, snapshot});
  return all;
}

}  // namespace

std::string context_name(const MetaContext& context) {
  switch (context.kind) {
    case MetaKind::allocation:
      return std::string(kAllocation);
    case MetaKind::depth:
      return std::string(kDepth);
    case MetaKind::changed:
      break;
  }
  return std::string(kChanged) + context.snapshot;
}

std::vector<MetaContext> list_contexts(const std::vector<std::string_view>& queries,
                                       const std::vector<std::string>& snapshots) {
  std::vector<MetaContext> all = all_contexts(snapshots);
  if (queries.empty()) return all;
  const std::unordered_set<std::string_view> asked(queries.begin(), queries.end());
  // Looked up once: queries times contexts is the client's to choose.
  std::vector<std::string_view> wildcards;
  for (std::string_view wildcard : {kBase, kQemu, kChanged}) {
    if (asked.contains(wildcard)) wildcards.push_back(wildcard);
  }
  std::erase_if(all, [&](const MetaContext& context) {
    const std::string name = context_name(context);
    const auto covers = [&](std::string_view wildcard) { return name.starts_with(wildcard); };
    return !asked.contains(name) && std::none_of(wildcards.begin(), wildcards.end(), covers);
  });
  return all;
}

std::vector<MetaContext> select_contexts(const std::vector<std::string_view>& queries,
                                         const std::vector<std::string>& snapshots) {
  const std::unordered_set<std::string_view> asked(queries.begin(), queries.end());
  std::vector<MetaContext> selected = all_contexts(snapshots);
  std::erase_if(selected, [&](const MetaContext& context) { return !asked.contains(context_name(context)); });
  for (size_t i = 0; i < selected.size(); i++) selected[i].id = static_cast<uint32_t>(i + 1);
  return selected;
}

}  // namespace cellblock::nbd
