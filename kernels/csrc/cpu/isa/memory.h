// Scratch memory of a task.
#pragma once

#include <stdint.h>

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// It begins with a cache line: a vector that crosses from one into the next costs two accesses.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t count) : lines_(new Line[(count + kCount - 1) / kCount]) {}
  ~Memory() { delete[] lines_; }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  T* data() const { return lines_->values; }

 private:
  static constexpr int64_t kCount = 64 / sizeof(T);
  struct alignas(64) Line {
    T values[kCount];
  };
  Line* lines_;
};

inline void clear(float* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = 0.0f;
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
