// A first-in first-out list of objects that carry their own `T* next`; allocates nothing and owns nothing.
// An object is in at most one list at a time.
#pragma once

#include <cstddef>

namespace cellblock {

template <typename T>
class IntrusiveList {
 public:
  bool empty() const { return first_ == nullptr; }
  T* front() const { return first_; }

  void push(T& item) {
    item.next = nullptr;
    (last_ ? last_->next : first_) = &item;
    last_ = &item;
  }

  // The oldest, or null.
  T* pop() {
    T* item = first_;
    if (!item) return nullptr;
    first_ = item->next;
    if (!first_) last_ = nullptr;
    item->next = nullptr;
    return item;
  }

  // Moves everything of `other` behind what is here.
  void append(IntrusiveList& other) {
    if (other.empty()) return;
    (last_ ? last_->next : first_) = other.first_;
    last_ = other.last_;
    other.first_ = other.last_ = nullptr;
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

}  // namespace cellblock
