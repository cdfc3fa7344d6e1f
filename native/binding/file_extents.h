// Holes of files, which Node knows nothing of: where the data of a sparse file lies (SEEK_DATA and SEEK_HOLE,
// for the command line's import), and making one.
#pragma once

#include <napi.h>

namespace cellblock::binding {

// nextExtent(fd: number, offset: bigint): { start: bigint, end: bigint } | null
//
// The first data at or behind `offset`; null when only holes follow, or nothing. Where the file system cannot
// tell, everything up to the end is data. Moves the file offset of `fd`: read from it by position only.
// Throws with a `code`.
Napi::Value next_extent(const Napi::CallbackInfo& info);

// punchHole(fd: number, offset: bigint, length: bigint): undefined
//
// That range reads zero and costs nothing afterwards; the size stays. Throws with a `code`: EOPNOTSUPP where
// the file system cannot.
Napi::Value punch_hole(const Napi::CallbackInfo& info);

}  // namespace cellblock::binding
