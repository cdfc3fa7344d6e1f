// Values across the wall. Only strings, numbers, bigints and byte arrays cross; JS memory is read during the
// call and copied.
#pragma once

#include <napi.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "plane/plane.h"
#include "plane/record.h"

namespace cellblock::binding {

inline uint64_t number_of(const Napi::Value& value) {
  if (value.IsBigInt()) {
    bool lossless = false;
    return value.As<Napi::BigInt>().Uint64Value(&lossless);
  }
  return value.IsNumber() ? static_cast<uint64_t>(value.As<Napi::Number>().DoubleValue()) : 0;
}

inline std::string string_of(const Napi::Value& value) {
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
}

inline bool bool_of(const Napi::Value& value) {
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

inline std::vector<uint64_t> numbers_of(const Napi::Value& value) {
  std::vector<uint64_t> numbers;
  if (!value.IsArray()) return numbers;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) numbers.push_back(number_of(array[i]));
  return numbers;
}

// 16 bytes of a Uint8Array; zeros when it is not one.
inline std::array<uint8_t, 16> id_of(const Napi::Value& value) {
  std::array<uint8_t, 16> id{};
  if (!value.IsTypedArray()) return id;
  const Napi::Uint8Array bytes = value.As<Napi::Uint8Array>();
  std::memcpy(id.data(), bytes.Data(), std::min<size_t>(id.size(), bytes.ByteLength()));
  return id;
}

inline Napi::Value bytes_to(Napi::Env env, const void* data, size_t length) {
  return Napi::Buffer<uint8_t>::Copy(env, static_cast<const uint8_t*>(data), length);
}

inline Napi::Number number_to(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}
inline Napi::BigInt bigint_to(Napi::Env env, uint64_t value) { return Napi::BigInt::New(env, value); }

// Throws an Error with `code` and `errno`; `what` is a sentence, or the name of what failed. The caller
// returns at once.
void throw_errno(Napi::Env env, int error, const std::string& what);

plane::FileName file_of(const Napi::Value& value);
std::vector<plane::FileName> files_of(const Napi::Value& value);

plane::KeptClient kept_of(const Napi::Value& value);

Napi::Object entry_to(Napi::Env env, const store::Entry& entry);
Napi::Array entries_to(Napi::Env env, const std::vector<store::Entry>& entries);
Napi::Object scan_to(Napi::Env env, const store::Scan& scan);
Napi::Object record_to(Napi::Env env, const plane::Record& record);
Napi::Object counters_to(Napi::Env env, const plane::PlaneCounters& counters);

}  // namespace cellblock::binding
