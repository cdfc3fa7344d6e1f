// See the header. "Sector" is always 512 bytes: the most a device writes as a whole.
#include "io/simulated_image.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace cellblock::io {
namespace {

constexpr uint8_t kAllSectors = 0xff;
static_assert(kSectorsPerPage == 8);

// How likely a sector survives, chosen once per loss, so that all, none and every mixture happen.
unsigned choose_survival(Random& random) {
  constexpr unsigned kChoices[] = {0, 10, 50, 90, 100};
  return kChoices[random.below(std::size(kChoices))];
}

uint8_t choose_sectors(Random& random, uint8_t among, unsigned percent) {
  uint8_t chosen = 0;
  for (unsigned s = 0; s < kSectorsPerPage; s++) {
    if (random.chance(percent)) chosen |= static_cast<uint8_t>(1u << s);
  }
  return chosen & among;
}

// The program may be storing there at this very moment, as into any page the kernel writes back: a sector may
// come out torn, which is what the checksums over it are for. Not an access the race detector should judge.
__attribute__((no_sanitize("thread"), noinline)) void copy_racing(void* to, const std::byte* from,
                                                                  size_t bytes) {
  auto* target = static_cast<volatile uint64_t*>(to);
  const auto* source = reinterpret_cast<const volatile uint64_t*>(from);
  for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) target[i] = source[i];
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string without_last_slash(const std::string& path) {
  return path.size() > 1 && path.back() == '/' ? path.substr(0, path.size() - 1) : path;
}

void set_name(DiskImage::Names& names, const std::string& name, const std::shared_ptr<FileImage>& file) {
  if (file) {
    names[name] = file;
  } else {
    names.erase(name);
  }
}

std::shared_ptr<FileImage> get_name(const DiskImage::Names& names, const std::string& name) {
  const auto found = names.find(name);
  return found == names.end() ? nullptr : found->second;
}

std::vector<std::string> all_names(const DiskImage& image) {
  std::vector<std::string> all;
  for (const auto& [name, file] : image.names) all.push_back(name);
  for (const auto& [name, file] : image.durable_names) {
    if (!image.names.contains(name)) all.push_back(name);
  }
  return all;
}

}  // namespace

FileImage::Memory::Memory(size_t wanted) : length((wanted + kPageBytes - 1) / kPageBytes * kPageBytes) {
  void* got = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bytes = got == MAP_FAILED ? nullptr : static_cast<std::byte*>(got);
}

FileImage::Memory::~Memory() {
  if (bytes) munmap(bytes, length);
}

uint64_t FileImage::write(const void* from, uint64_t offset, uint64_t bytes, uint64_t room) {
  absorb();
  uint64_t fits = 0;
  while (fits < bytes) {
    const uint64_t at = offset + fits;
    if (!current_.has_page(at / kPageBytes)) {
      if (room == 0) break;
      room--;
    }
    fits += std::min(bytes - fits, kPageBytes - at % kPageBytes);
  }
  current_.write(from, offset, fits);
  mark_dirty(offset, fits);
  reflect(offset, fits);
  return fits;
}

bool FileImage::zero(uint64_t offset, uint64_t bytes, uint64_t room) {
  absorb();
  uint64_t missing = 0;
  const uint64_t end = offset + bytes;
  for (uint64_t page = offset / kPageBytes; page * kPageBytes < end; page++)
    missing += !current_.has_page(page);
  if (missing > room) return false;
  current_.write_zeros(offset, bytes);
  mark_dirty(offset, bytes);
  reflect(offset, bytes);
  return true;
}

void FileImage::punch(uint64_t offset, uint64_t bytes) {
  absorb();
  if (offset >= current_.size()) return;
  bytes = std::min(bytes, current_.size() - offset);
  // The page that the end of the file lies in goes too: nothing of the file is behind it.
  const bool to_the_end = offset + bytes == current_.size();
  const uint64_t end =
      to_the_end ? (offset + bytes + kPageBytes - 1) / kPageBytes * kPageBytes : offset + bytes;
  current_.punch(offset, end - offset);
  mark_dirty(offset, bytes);
  reflect(offset, bytes);
}

uint64_t FileImage::read(void* to, uint64_t offset, uint64_t bytes) {
  absorb();
  if (offset >= current_.size()) return 0;
  bytes = std::min(bytes, current_.size() - offset);
  current_.read(to, offset, bytes);
  return bytes;
}

uint64_t FileImage::unsynced_sectors() {
  absorb();
  uint64_t sectors = 0;
  for (const auto& [page, mask] : dirty_) sectors += static_cast<uint64_t>(__builtin_popcount(mask));
  return sectors;
}

void FileImage::sync(uint64_t offset, uint64_t bytes) {
  absorb();
  for (const auto& [page, mask] : dirty_in(offset, bytes)) keep(page, mask);
  durable_.resize(current_.size());
  size_dirty_ = false;
}

void FileImage::fail_writeback(Random& random, int error, uint64_t offset, uint64_t bytes) {
  constexpr unsigned kWrittenPercent = 30;
  absorb();
  for (const auto& [page, mask] : dirty_in(offset, bytes)) {
    keep(page, choose_sectors(random, mask, kWrittenPercent));
    dirty_.erase(page);
  }
  if (size_dirty_ && random.chance(50)) durable_.resize(current_.size());
  size_dirty_ = false;
  errors_++;
  last_error_ = error;
  error_heard_ = false;
}

void FileImage::write_back_some(Random& random) {
  absorb();
  const unsigned percent = choose_survival(random);
  for (const auto& [page, mask] : dirty_in(0, UINT64_MAX)) keep(page, choose_sectors(random, mask, percent));
}

void FileImage::lose_power(Random& random) {
  absorb();
  const unsigned percent = choose_survival(random);
  const uint64_t wanted = current_.size();
  for (const auto& [page, mask] : dirty_in(0, UINT64_MAX)) keep(page, choose_sectors(random, mask, percent));
  if (size_dirty_ && wanted > durable_.size()) {
    // The size follows the data: at most to the end of the last page that made it.
    const uint64_t reach = std::min(wanted, std::max(durable_.size(), durable_.data_end()));
    const uint64_t growth = reach - durable_.size();
    const uint64_t kept = random.chance(50) ? growth : random.below(growth + 1);
    durable_.resize(durable_.size() + kept);
  }
  durable_.cut_off_behind_size();
  current_ = durable_;
  dirty_.clear();
  size_dirty_ = false;
  error_heard_ = true;
}

int FileImage::sync_error(uint64_t& mark) {
  if (mark == errors_) return 0;
  mark = errors_;
  error_heard_ = true;
  return last_error_;
}

std::byte* FileImage::map(size_t length) {
  if (length == 0 || length > current_.size()) return nullptr;
  if (memory_ && memory_->length >= length) return memory_->bytes;
  absorb();
  auto memory = std::make_shared<Memory>(length);
  if (!memory->bytes) return nullptr;
  if (memory_) detached_.push_back(memory_);
  memory_ = memory;
  reflect(0, memory_->length);
  return memory_->bytes;
}

void FileImage::detach() {
  absorb();
  if (memory_) detached_.push_back(std::move(memory_));
  memory_ = nullptr;
}

void FileImage::absorb() {
  if (!memory_) return;
  alignas(uint64_t) std::byte now[kSectorBytes];
  std::byte before[kSectorBytes];
  const uint64_t length = std::min<uint64_t>(memory_->length, current_.size());
  for (uint64_t at = 0; at < length; at += kSectorBytes) {
    copy_racing(now, memory_->bytes + at, kSectorBytes);
    current_.read(before, at, kSectorBytes);
    const uint64_t part = std::min(kSectorBytes, length - at);
    if (std::memcmp(now, before, part) == 0) continue;
    current_.write(now, at, part);
    mark_dirty(at, part);
  }
}

void FileImage::reflect(uint64_t offset, uint64_t bytes) {
  if (!memory_ || offset >= memory_->length) return;
  current_.read(memory_->bytes + offset, offset, std::min<uint64_t>(bytes, memory_->length - offset));
}

void FileImage::mark_dirty(uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return;
  const uint64_t end = offset + bytes;
  for (uint64_t sector = offset / kSectorBytes; sector * kSectorBytes < end; sector++) {
    dirty_[sector / kSectorsPerPage] |= static_cast<uint8_t>(1u << (sector % kSectorsPerPage));
  }
  if (end > current_.size()) {
    current_.resize(end);
    size_dirty_ = true;
  }
}

void FileImage::keep(uint64_t page, uint8_t sectors) {
  if (sectors == kAllSectors && !current_.has_page(page)) {
    durable_.punch(page * kPageBytes, kPageBytes);
  } else {
    for (unsigned s = 0; s < kSectorsPerPage; s++) {
      if (sectors & (1u << s)) durable_.copy_sector(current_, page * kSectorsPerPage + s);
    }
  }
  const auto found = dirty_.find(page);
  if (found == dirty_.end()) return;
  found->second &= static_cast<uint8_t>(~sectors);
  if (found->second == 0) dirty_.erase(found);
}

std::vector<std::pair<uint64_t, uint8_t>> FileImage::dirty_in(uint64_t offset, uint64_t bytes) const {
  const uint64_t first = offset / kPageBytes;
  const uint64_t last = bytes > UINT64_MAX - offset ? UINT64_MAX : (offset + bytes) / kPageBytes;
  std::vector<std::pair<uint64_t, uint8_t>> found;
  for (auto at = dirty_.lower_bound(first); at != dirty_.end() && at->first <= last; ++at)
    found.push_back(*at);
  return found;
}

uint64_t DiskImage::allocated() const {
  uint64_t bytes = 0;
  for (const auto& [name, file] : names) bytes += file->allocated();
  return bytes;
}

void DiskImage::sync_directory(const std::string& path) {
  for (const std::string& name : all_names(*this)) {
    if (directory_of(name) == without_last_slash(path)) set_name(durable_names, name, get_name(names, name));
  }
}

DiskImage DiskImage::copy() const {
  std::map<const FileImage*, std::shared_ptr<FileImage>> copies;
  const auto copy_of = [&](const std::shared_ptr<FileImage>& file) {
    std::shared_ptr<FileImage>& made = copies[file.get()];
    if (!made) {
      made = std::make_shared<FileImage>(*file);
      made->detach();
    }
    return made;
  };
  DiskImage image;
  for (const auto& [name, file] : names) image.names[name] = copy_of(file);
  for (const auto& [name, file] : durable_names) image.durable_names[name] = copy_of(file);
  return image;
}

void DiskImage::lose_power(Random& random) {
  const unsigned percent = choose_survival(random);
  Names left;
  for (const std::string& name : all_names(*this)) {
    set_name(left, name, get_name(random.chance(percent) ? names : durable_names, name));
  }
  for (const auto& [name, file] : left) file->lose_power(random);
  names = left;
  durable_names = left;
}

}  // namespace cellblock::io
