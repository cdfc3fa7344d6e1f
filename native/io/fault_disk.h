// A disk stacked over another, usually the real one, that lets chosen operations go wrong. What a FaultPlan
// fails is not done at all; what it shortens is done in part.
#pragma once

#include <memory>

#include "io/fault_plan.h"
#include "io/io.h"

namespace cellblock::io {

// `below` and `plan` outlive the disk made and every file and engine of it.
std::unique_ptr<Disk> make_fault_disk(Disk& below, FaultPlan& plan);

}  // namespace cellblock::io
