#include "binding/convert.h"

#include <cstring>

namespace cellblock::binding {
namespace {

Napi::Value end_window_to(Napi::Env env, uint64_t end) {
  return end == store::kOpenEnd ? env.Null() : Napi::Value(bigint_to(env, end));
}

Napi::Object member_to(Napi::Env env, const store::CutMember& member) {
  Napi::Object object = Napi::Object::New(env);
  object["line"] = number_to(env, member.line);
  object["version"] = number_to(env, member.version);
  object["upTo"] = bigint_to(env, member.up_to);
  object["snapshotId"] = bytes_to(env, member.snapshot.data(), member.snapshot.size());
  object["name"] = Napi::String::New(env, member.name);
  return object;
}

Napi::Array members_to(Napi::Env env, const std::vector<store::CutMember>& members) {
  Napi::Array array = Napi::Array::New(env, members.size());
  for (uint32_t i = 0; i < members.size(); i++) array[i] = member_to(env, members[i]);
  return array;
}

Napi::Object kind(Napi::Env env, const char* name) {
  Napi::Object object = Napi::Object::New(env);
  object["kind"] = Napi::String::New(env, name);
  return object;
}

// By nbd::MetaKind.
constexpr const char* kContextKinds[] = {"allocation", "depth", "changed"};

Napi::Object peer_to(Napi::Env env, const plane::Peer& peer) {
  Napi::Object object = Napi::Object::New(env);
  object["name"] = Napi::String::New(env, peer.name);
  object["uid"] = Napi::Number::New(env, static_cast<double>(peer.uid));
  object["identity"] = Napi::String::New(env, peer.identity);
  object["tls"] = Napi::Boolean::New(env, peer.tls);
  object["host"] = Napi::String::New(env, peer.host);
  return object;
}

Napi::Object kept_to(Napi::Env env, const plane::KeptClient& client) {
  Napi::Object object = Napi::Object::New(env);
  object["descriptor"] = Napi::Number::New(env, client.fd);
  object["peer"] = peer_to(env, client.peer);
  object["input"] = bytes_to(env, client.input.data(), client.input.size());
  const nbd::Negotiated& terms = client.negotiated;
  object["exportName"] = Napi::String::New(env, terms.name);
  object["structured"] = Napi::Boolean::New(env, terms.structured);
  object["extended"] = Napi::Boolean::New(env, terms.extended);
  object["transmissionFlags"] = Napi::Number::New(env, terms.transmission_flags);
  object["kernel"] = Napi::Boolean::New(env, client.resends);
  Napi::Array contexts = Napi::Array::New(env, terms.contexts.size());
  for (uint32_t i = 0; i < terms.contexts.size(); i++) {
    Napi::Object context = Napi::Object::New(env);
    context["id"] = number_to(env, terms.contexts[i].id);
    context["kind"] = Napi::String::New(env, kContextKinds[static_cast<size_t>(terms.contexts[i].kind)]);
    context["snapshot"] = Napi::String::New(env, terms.contexts[i].snapshot);
    contexts[i] = context;
  }
  object["contexts"] = contexts;
  return object;
}

// One overload for each kind of record.
struct RecordConverter {
  Napi::Env env;

  Napi::Object operator()(const plane::FaultAsked& record) const {
    Napi::Object object = kind(env, "fault");
    object["ticket"] = number_to(env, record.ticket);
    object["handle"] = number_to(env, record.handle);
    object["first"] = bigint_to(env, record.first);
    object["count"] = number_to(env, record.count);
    return object;
  }
  Napi::Object operator()(const plane::RoundWanted& record) const {
    Napi::Object object = kind(env, "round-wanted");
    object["handle"] = number_to(env, record.handle);
    object["urgent"] = Napi::Boolean::New(env, record.urgent);
    return object;
  }
  Napi::Object operator()(const plane::FileWanted& record) const {
    Napi::Object object = kind(env, "file-wanted");
    object["handle"] = number_to(env, record.handle);
    return object;
  }
  Napi::Object operator()(const plane::Done& record) const {
    return answered("done", record.ticket, record.error);
  }
  Napi::Object operator()(const plane::Adopted& record) const {
    return answered("adopted", record.ticket, record.error);
  }
  Napi::Object operator()(const plane::ClientsKept& record) const {
    Napi::Object object = answered("clients-kept", record.ticket, 0);
    Napi::Array clients = Napi::Array::New(env, record.clients.size());
    for (uint32_t i = 0; i < record.clients.size(); i++) clients[i] = kept_to(env, record.clients[i]);
    object["clients"] = clients;
    return object;
  }
  Napi::Object operator()(const plane::BytesRead& record) const {
    Napi::Object object = answered("bytes", record.ticket, record.error);
    object["data"] = bytes_to(env, record.bytes.data(), record.bytes.size());
    return object;
  }
  Napi::Object operator()(const plane::RoundTaken& record) const {
    Napi::Object object = answered("round", record.ticket, record.round.error);
    object["position"] = bigint_to(env, record.round.position);
    Napi::Array records = Napi::Array::New(env, record.round.records.size());
    for (uint32_t i = 0; i < record.round.records.size(); i++) {
      const volume::RoundRecord& from = record.round.records[i];
      Napi::Object to = Napi::Object::New(env);
      to["version"] = number_to(env, from.version);
      to["window"] = bigint_to(env, from.window);
      to["compare"] = Napi::Boolean::New(env, from.compare);
      to["record"] = bytes_to(env, from.bytes.data(), from.bytes.size());
      records[i] = to;
    }
    object["records"] = records;
    Napi::Array cut_offs = Napi::Array::New(env, record.round.cut_offs.size());
    for (uint32_t i = 0; i < record.round.cut_offs.size(); i++) {
      const volume::RoundCutOff& from = record.round.cut_offs[i];
      Napi::Object to = Napi::Object::New(env);
      to["version"] = number_to(env, from.version);
      to["first"] = bigint_to(env, from.first);
      to["end"] = end_window_to(env, from.end);
      cut_offs[i] = to;
    }
    object["cutOffs"] = cut_offs;
    return object;
  }
  Napi::Object operator()(const plane::CutDone& record) const {
    Napi::Object object = answered("cut", record.ticket, record.error);
    object["position"] = bigint_to(env, record.position);
    Napi::Array errors = Napi::Array::New(env, record.errors.size());
    for (uint32_t i = 0; i < record.errors.size(); i++) errors[i] = Napi::Number::New(env, record.errors[i]);
    object["errors"] = errors;
    object["members"] = members_to(env, record.members);
    return object;
  }
  Napi::Object operator()(const plane::ListAsked& record) const {
    Napi::Object object = kind(env, "list");
    object["ticket"] = number_to(env, record.ticket);
    object["peer"] = peer_to(env, record.peer);
    return object;
  }
  Napi::Object operator()(const plane::DescribeAsked& record) const {
    Napi::Object object = kind(env, "describe");
    object["ticket"] = number_to(env, record.ticket);
    object["peer"] = peer_to(env, record.peer);
    object["name"] = Napi::String::New(env, record.name);
    return object;
  }
  Napi::Object operator()(const plane::OpenAsked& record) const {
    Napi::Object object = kind(env, "open");
    object["ticket"] = number_to(env, record.ticket);
    object["peer"] = peer_to(env, record.peer);
    object["name"] = Napi::String::New(env, record.name);
    Napi::Array since = Napi::Array::New(env, record.changed_since.size());
    for (uint32_t i = 0; i < record.changed_since.size(); i++)
      since[i] = Napi::String::New(env, record.changed_since[i]);
    object["changedSince"] = since;
    return object;
  }
  Napi::Object operator()(const plane::KernelAnswer& record) const {
    Napi::Object object = answered("kernel", record.ticket, record.error);
    object["index"] = number_to(env, record.index);
    object["sentence"] = Napi::String::New(env, record.sentence);
    return object;
  }
  Napi::Object operator()(const plane::KernelStatus& record) const {
    Napi::Object object = answered("kernel-status", record.ticket, record.error);
    Napi::Array connected = Napi::Array::New(env, record.connected.size());
    for (uint32_t i = 0; i < record.connected.size(); i++) connected[i] = number_to(env, record.connected[i]);
    object["connected"] = connected;
    return object;
  }
  Napi::Object operator()(const plane::LinkDead& record) const {
    Napi::Object object = kind(env, "link-dead");
    object["index"] = record.index ? Napi::Value(number_to(env, *record.index)) : env.Null();
    return object;
  }
  Napi::Object operator()(const plane::LeaseClosed& record) const {
    Napi::Object object = kind(env, "closed");
    object["lease"] = number_to(env, record.lease);
    return object;
  }
  Napi::Object operator()(const plane::DeviceFailed& record) const {
    Napi::Object object = kind(env, "failed");
    object["handle"] = number_to(env, record.handle);
    object["error"] = Napi::Number::New(env, record.error);
    object["after"] = bigint_to(env, record.after);
    object["position"] = bigint_to(env, record.position);
    object["entries"] = entries_to(env, record.entries);
    return object;
  }
  Napi::Object operator()(const plane::StoreFailed& record) const {
    Napi::Object object = kind(env, "store-failed");
    object["error"] = Napi::Number::New(env, record.error);
    return object;
  }
  Napi::Object operator()(const plane::TransactionLogLost& record) const {
    Napi::Object object = kind(env, "transaction-log-lost");
    object["handle"] = number_to(env, record.handle);
    object["error"] = Napi::Number::New(env, record.error);
    return object;
  }
  Napi::Object operator()(const plane::Logged& record) const {
    Napi::Object object = kind(env, "log");
    object["level"] = Napi::String::New(env, record.level);
    object["message"] = Napi::String::New(env, record.message);
    Napi::Object fields = Napi::Object::New(env);
    for (const auto& [name, value] : record.fields) fields[name] = Napi::String::New(env, value);
    object["fields"] = fields;
    return object;
  }

 private:
  Napi::Object answered(const char* name, uint64_t ticket, int error) const {
    Napi::Object object = kind(env, name);
    object["ticket"] = number_to(env, ticket);
    object["error"] = Napi::Number::New(env, error);
    return object;
  }
};

}  // namespace

void throw_errno(Napi::Env env, int error, const std::string& what) {
  Napi::Error thrown =
      Napi::Error::New(env, what.find(' ') == std::string::npos ? what + ": " + std::strerror(error) : what);
  const char* name = strerrorname_np(error);
  thrown.Value()["code"] = Napi::String::New(env, name ? name : "EIO");
  thrown.Value()["errno"] = Napi::Number::New(env, error);
  thrown.ThrowAsJavaScriptException();
}

plane::FileName file_of(const Napi::Value& value) {
  if (!value.IsObject()) return {};
  const Napi::Object object = value.As<Napi::Object>();
  return {number_of(object["number"]), string_of(object["path"])};
}

std::vector<plane::FileName> files_of(const Napi::Value& value) {
  std::vector<plane::FileName> files;
  if (!value.IsArray()) return files;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) files.push_back(file_of(array[i]));
  return files;
}

Napi::Object entry_to(Napi::Env env, const store::Entry& entry) {
  using store::EntryType;
  static constexpr const char* kNames[] = {"", "own", "zero", "cut-off", "commit", "cut", "failed"};
  Napi::Object object = kind(env, kNames[static_cast<uint8_t>(entry.type)]);
  object["position"] = bigint_to(env, entry.position);
  if (entry.type == EntryType::cut) {
    object["members"] = members_to(env, entry.members);
    return object;
  }
  object["line"] = number_to(env, entry.line);
  switch (entry.type) {
    case EntryType::own:
    case EntryType::zero:
      object["version"] = number_to(env, entry.version);
      object["window"] = bigint_to(env, entry.window);
      object["start"] = number_to(env, entry.start);
      object["count"] = number_to(env, entry.count);
      if (entry.type == EntryType::own) object["slot"] = bigint_to(env, entry.argument);
      break;
    case EntryType::cut_off:
      object["version"] = number_to(env, entry.version);
      object["first"] = bigint_to(env, entry.window);
      object["end"] = end_window_to(env, entry.argument);
      break;
    case EntryType::commit:
      object["upTo"] = bigint_to(env, entry.argument);
      break;
    case EntryType::failed:
      object["after"] = bigint_to(env, entry.argument);
      break;
    case EntryType::cut:
      break;
  }
  return object;
}

Napi::Array entries_to(Napi::Env env, const std::vector<store::Entry>& entries) {
  Napi::Array array = Napi::Array::New(env, entries.size());
  for (uint32_t i = 0; i < entries.size(); i++) {
    Napi::HandleScope scope(env);
    array[i] = entry_to(env, entries[i]);
  }
  return array;
}

Napi::Object scan_to(Napi::Env env, const store::Scan& scan) {
  Napi::Object object = Napi::Object::New(env);
  object["created"] = Napi::Boolean::New(env, scan.created);
  object["clean"] = Napi::Boolean::New(env, scan.clean);
  object["sameIncarnation"] = Napi::Boolean::New(env, scan.same_incarnation);
  object["entries"] = entries_to(env, scan.entries);
  object["nextPosition"] = bigint_to(env, scan.next_position);
  return object;
}

Napi::Object record_to(Napi::Env env, const plane::Record& record) {
  return std::visit(RecordConverter{env}, record);
}

Napi::Object counters_to(Napi::Env env, const plane::PlaneCounters& counters) {
  Napi::Object object = Napi::Object::New(env);
  object["engine"] = Napi::String::New(env, counters.engine);
  object["connections"] = Napi::Number::New(env, counters.connections);
  object["connectionsRefused"] = bigint_to(env, counters.refused);
  object["tlsBegun"] = bigint_to(env, counters.tls_begun);
  object["tlsFailed"] = bigint_to(env, counters.tls_failed);
  object["connectionsRefusedPerClient"] = bigint_to(env, counters.refused_per_client);
  object["handshakesTimedOut"] = bigint_to(env, counters.handshakes_timed_out);
  object["journalCells"] = bigint_to(env, counters.journal_cells);
  object["journalUsedCells"] = bigint_to(env, counters.journal_used);
  object["journalSyncs"] = bigint_to(env, counters.journal_syncs);
  object["residentBytes"] = bigint_to(env, counters.resident_bytes);
  object["inFlightBytes"] =
      bigint_to(env, static_cast<uint64_t>(std::max<int64_t>(0, counters.in_flight_bytes)));
  object["faults"] = bigint_to(env, counters.faults);
  object["faultedWindows"] = bigint_to(env, counters.faulted_windows);
  object["evictedWindows"] = bigint_to(env, counters.evicted_windows);
  object["punches"] = bigint_to(env, counters.punches);
  static constexpr const char* kKindNames[] = {"read",         "write", "flush",       "trim",
                                               "write_zeroes", "cache", "block_status"};
  Napi::Array devices = Napi::Array::New(env, counters.volumes.size());
  for (uint32_t i = 0; i < counters.volumes.size(); i++) {
    Napi::HandleScope scope(env);
    const auto& volume = counters.volumes[i];
    Napi::Object device = Napi::Object::New(env);
    device["handle"] = number_to(env, volume.handle);
    device["connections"] = number_to(env, volume.wire.connections);
    device["residentBytes"] = bigint_to(env, volume.resident_bytes);
    device["throttledRequests"] = bigint_to(env, volume.wire.throttled);
    device["throttledMicroseconds"] = bigint_to(env, volume.wire.throttled_microseconds);
    device["dirtyWindows"] = number_to(env, volume.dirty_windows);
    Napi::Object kinds = Napi::Object::New(env);
    for (unsigned k = 0; k < plane::kKinds; k++) {
      const auto& from = volume.wire.kinds[k];
      Napi::Object to = Napi::Object::New(env);
      to["requests"] = bigint_to(env, from.requests);
      to["bytes"] = bigint_to(env, from.bytes);
      to["errors"] = bigint_to(env, from.errors);
      to["microseconds"] = bigint_to(env, from.microseconds);
      Napi::BigUint64Array buckets = Napi::BigUint64Array::New(env, from.buckets.size());
      for (size_t b = 0; b < from.buckets.size(); b++) buckets[b] = from.buckets[b];
      to["buckets"] = buckets;
      kinds[kKindNames[k]] = to;
    }
    device["kinds"] = kinds;
    devices[i] = device;
  }
  object["devices"] = devices;
  return object;
}

plane::KeptClient kept_of(const Napi::Value& value) {
  const Napi::Object from = value.As<Napi::Object>();
  plane::KeptClient client;
  client.fd = static_cast<int>(number_of(from["descriptor"]));
  const Napi::Object peer = Napi::Value(from["peer"]).As<Napi::Object>();
  client.peer.name = string_of(peer["name"]);
  client.peer.uid = static_cast<int64_t>(Napi::Value(peer["uid"]).ToNumber().Int64Value());
  client.negotiated.name = string_of(from["exportName"]);
  client.negotiated.structured = bool_of(from["structured"]);
  client.negotiated.extended = bool_of(from["extended"]);
  client.negotiated.transmission_flags = static_cast<uint16_t>(number_of(from["transmissionFlags"]));
  client.resends = bool_of(from["kernel"]);
  const Napi::Array contexts = Napi::Value(from["contexts"]).As<Napi::Array>();
  for (uint32_t i = 0; i < contexts.Length(); i++) {
    const Napi::Object context = Napi::Value(contexts[i]).As<Napi::Object>();
    const std::string kind = string_of(context["kind"]);
    const auto place = std::find(std::begin(kContextKinds), std::end(kContextKinds), kind);
    if (place == std::end(kContextKinds)) continue;
    client.negotiated.contexts.push_back({static_cast<uint32_t>(number_of(context["id"])),
                                          static_cast<nbd::MetaKind>(place - std::begin(kContextKinds)),
                                          string_of(context["snapshot"])});
  }
  const Napi::Value input = from["input"];
  if (input.IsTypedArray()) {
    const Napi::Uint8Array bytes = input.As<Napi::Uint8Array>();
    const std::byte* begin = reinterpret_cast<const std::byte*>(bytes.Data());
    client.input.assign(begin, begin + bytes.ByteLength());
  }
  return client;
}

}  // namespace cellblock::binding
