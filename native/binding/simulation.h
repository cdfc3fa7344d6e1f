// A simulated disk in JavaScript's hands, for crash tests of the whole agent: class SimulatedDisk.
#pragma once

#include <napi.h>

#include <memory>

#include "io/io.h"

namespace cellblock::binding {

Napi::Function define_simulated_disk(Napi::Env env);

// A Disk that is the simulated one held by `value`; null when it is not one.
std::unique_ptr<io::Disk> simulated_disk_of(const Napi::Value& value);

}  // namespace cellblock::binding
