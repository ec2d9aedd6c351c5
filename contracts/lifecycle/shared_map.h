// An ordered map by names (hashes, keys) whose copies share what they have in common: a copy costs
// the same at any size, and the first change after it copies one part in 256, those names that
// begin with the same byte. Names whose owner chooses their first byte can make a part as large as
// the map, no worse. Iteration is in the order of a std::map.
//   Pointers and iterators of const access hold until the map changes; those of change() hold until
// the map is copied or what they name is erased.
//   One thread at a time, like other values: copies in different threads do not meet, though they
// share parts.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ledger/base/named.h"

namespace souk::contracts {

inline uint8_t first_byte(const Digest& name) {
  return name[0];
}
template <class Meaning>
uint8_t first_byte(const Named<Meaning, Digest>& name) {
  return name.value()[0];
}
template <class First, class Second>
uint8_t first_byte(const std::pair<First, Second>& name) {
  return first_byte(name.first);
}

template <class Name, class Value>
class SharedMap {
  using Part = std::map<Name, Value>;
  static constexpr size_t kParts = 256;

 public:
  using value_type = typename Part::value_type;
  using mapped_type = Value;

  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = typename Part::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;

    Iterator() = default;
    reference operator*() const { return *at_; }
    pointer operator->() const { return &*at_; }
    Iterator& operator++() {
      if (++at_ == (*part_)->end()) settle(part_ + 1);
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) {
      return a.part_ == b.part_ && (a.part_ == a.end_ || a.at_ == b.at_);
    }

   private:
    friend class SharedMap;
    using Parts = const std::shared_ptr<Part>*;
    Iterator(Parts part, Parts end) : end_(end) { settle(part); }
    Iterator(Parts part, Parts end, typename Part::const_iterator at)
        : part_(part), end_(end), at_(at) {}
    // At the first there is from `part` on.
    void settle(Parts part) {
      while (part != end_ && (!*part || (*part)->empty())) ++part;
      part_ = part;
      if (part != end_) at_ = (*part)->cbegin();
    }

    Parts part_ = nullptr, end_ = nullptr;
    typename Part::const_iterator at_{};
  };
  using const_iterator = Iterator;

  SharedMap() = default;
  SharedMap(const SharedMap& other) : parts_(other.parts_), size_(other.size_) {
    other.copied_.store(true, std::memory_order_relaxed);
  }
  SharedMap(SharedMap&& other) noexcept { swap(other); }
  SharedMap& operator=(SharedMap other) noexcept {
    swap(other);
    return *this;
  }
  ~SharedMap() = default;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Iterator begin() const { return Iterator(parts_.data(), parts_.data() + parts_.size()); }
  Iterator end() const {
    return Iterator(parts_.data() + parts_.size(), parts_.data() + parts_.size());
  }
  Iterator find(const Name& name) const {
    if (parts_.empty()) return end();
    const auto& part = parts_[first_byte(name)];
    if (!part) return end();
    auto at = part->find(name);
    if (at == part->cend()) return end();
    return Iterator(&part, parts_.data() + parts_.size(), at);
  }
  size_t count(const Name& name) const { return find(name) == end() ? 0 : 1; }
  // nullptr: it is not there.
  const Value* get(const Name& name) const {
    auto at = find(name);
    return at == end() ? nullptr : &at->second;
  }

  // The same, to be changed in this copy alone.
  Value* change(const Name& name) {
    if (!get(name)) return nullptr;
    return &own(name).find(name)->second;
  }
  // As std::map's: added with a default value where it is not there.
  Value& operator[](const Name& name) {
    auto [at, added] = own(name).try_emplace(name);
    size_ += added;
    return at->second;
  }
  // Whether it was not there before, and is now.
  bool emplace(const Name& name, Value value) {
    if (get(name)) return false;
    own(name).emplace(name, std::move(value));
    ++size_;
    return true;
  }
  bool erase(const Name& name) {
    if (!get(name)) return false;
    own(name).erase(name);
    --size_;
    return true;
  }

  friend bool operator==(const SharedMap& a, const SharedMap& b) {
    if (a.size_ != b.size_) return false;
    if (a.size_ == 0) return true;
    for (size_t i = 0; i < kParts; ++i) {
      if (a.parts_[i] != b.parts_[i] && a.part(i) != b.part(i)) return false;
    }
    return true;
  }

 private:
  void swap(SharedMap& other) noexcept {
    std::swap(parts_, other.parts_);
    std::swap(mine_, other.mine_);
    std::swap(size_, other.size_);
    bool mine = copied_.load(std::memory_order_relaxed);
    copied_.store(other.copied_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    other.copied_.store(mine, std::memory_order_relaxed);
  }
  const Part& part(size_t index) const {
    static const Part kEmpty;
    return parts_[index] ? *parts_[index] : kEmpty;
  }
  // The part of this name, in no other copy.
  Part& own(const Name& name) {
    if (copied_.exchange(false, std::memory_order_relaxed)) mine_.reset();
    if (parts_.empty()) parts_.resize(kParts);
    const size_t index = first_byte(name);
    auto& part = parts_[index];
    if (!mine_[index]) {
      part = part ? std::make_shared<Part>(*part) : std::make_shared<Part>();
      mine_[index] = true;
    }
    return *part;
  }

  std::vector<std::shared_ptr<Part>> parts_;  // by first byte; none yet: empty
  std::bitset<kParts> mine_;                  // in no other copy, but for what `copied_` says
  size_t size_ = 0;
  // Since the last change. Of a const map: two threads may copy it at once.
  mutable std::atomic<bool> copied_ = false;
};

}  // namespace souk::contracts
