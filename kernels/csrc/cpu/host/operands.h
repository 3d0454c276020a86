// What is done with operands before kernels see them: sizes, a scale, scratch memory for copies.
#pragma once

#include <stdint.h>

#include <memory>
#include <new>

#include "host/run.h"

namespace supnorm {

// Scratch memory that a thread keeps between calls: fresh pages would cost more than some kernels
// do.
class Workspace {
 public:
  // Room for `count` floats from now until the next call to reset().
  float* take(int64_t count) {
    const int64_t rounded = (count + 15) / 16 * 16;
    if (used_ + rounded <= capacity_) {
      used_ += rounded;
      return data_.get() + used_ - rounded;
    }
    return nullptr;
  }

  void reset(int64_t capacity) {
    used_ = 0;
    if (capacity <= capacity_ && capacity_ <= kKept) return;
    data_.reset(
        static_cast<float*>(::operator new(sizeof(float) * capacity, std::align_val_t(64))));
    capacity_ = capacity;
  }

 private:
  static constexpr int64_t kKept = int64_t{1}
                                   << 26;  // floats; a larger one goes with the next call

  struct Free {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  std::unique_ptr<float[], Free> data_;
  int64_t capacity_ = 0, used_ = 0;
};

Workspace& workspace();

inline int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }
inline int64_t padded(int64_t count) { return blocks(count, 16) * 16; }

template <class P>
bool is_empty(const P& a) {
  return a.num_rows == 0 || a.num_outputs == 0;
}

// Of all numbers of a matrix.
Sizes sizes_of(const float* source, int64_t rows, int64_t columns, int64_t stride);

// max |x| + max |w|: no difference is larger. Not finite where an operand is not, or it overflows.
float largest_difference_bound(const float* x, const Problem& a);

// A power of two that brings `largest` to about 2^exponent; 1 where it is within [2^lowest,
// 2^exponent].
float choose_scale(float largest, int lowest, int exponent);

// log2(p) for the powers that are taken by squaring alone, else 0.
int squarings_of(double p);

// A dense copy in the workspace.
const float* scaled_copy(const float* source, int64_t rows, int64_t columns, int64_t stride,
                         float scale);

}  // namespace supnorm
