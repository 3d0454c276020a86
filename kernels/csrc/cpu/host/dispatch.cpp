// Which compiled kernels this processor runs.
#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "host/run.h"

namespace supnorm {
namespace {

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

// For processors that do 512 bits in two halves: there maxima whose index is not asked for are
// faster on 256 bits, and nothing else is.
const Kernels& kernels_avx512vl() {
  static const Kernels table = [] {
    Kernels copy = kernels_avx512();
    copy.name = "avx512vl";
    copy.run_arithmetic = avx512vl::run_arithmetic;
    copy.linf_distance = [](const ForwardArgs& a, int64_t begin, int64_t end) {
      if (a.argmax != nullptr) return kernels_avx512().linf_distance(a, begin, end);
      avx512vl::linf_distance(a, begin, end);
    };
    return copy;
  }();
  return table;
}

// AMD's family 19h (Zen 4).
bool splits_512_bits() {
  unsigned eax, ebx, ecx, edx;
  if (!__builtin_cpu_is("amd") || !__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return false;
  return ((eax >> 8) & 0xf) + ((eax >> 20) & 0xff) == 0x19;
}
#endif

const Kernels* find(const char* name) {
  if (std::strcmp(name, "portable") == 0) return &kernels_portable();
#if defined(__x86_64__)
  if (std::strcmp(name, "avx2") == 0 && has_avx2()) return &kernels_avx2();
  if (std::strcmp(name, "avx512") == 0 && has_avx512()) return &kernels_avx512();
  if (std::strcmp(name, "avx512vl") == 0 && has_avx512()) return &kernels_avx512vl();
#endif
  return nullptr;
}

const Kernels* best() {
#if defined(__x86_64__)
  if (has_avx512()) return splits_512_bits() ? &kernels_avx512vl() : &kernels_avx512();
  if (has_avx2()) return &kernels_avx2();
#endif
  return &kernels_portable();
}

std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> kernels{best()};
  return kernels;
}

std::atomic<bool> is_skipping{true};

}  // namespace

bool skips() { return is_skipping.load(std::memory_order_relaxed); }

const Kernels& kernels() { return *active().load(std::memory_order_relaxed); }

bool use_kernels(const char* name) {
  const Kernels* found = find(name);
  if (found != nullptr) active().store(found, std::memory_order_relaxed);
  return found != nullptr;
}

}  // namespace supnorm

// Called from kernels/backend.py through ctypes.
extern "C" {
__attribute__((visibility("default"))) const char* supnorm_kernels_in_use() {
  return supnorm::kernels().name;
}
__attribute__((visibility("default"))) int supnorm_use_kernels(const char* name) {
  return supnorm::use_kernels(name) ? 1 : 0;
}
__attribute__((visibility("default"))) void supnorm_use_skipping(int is_wanted) {
  supnorm::is_skipping.store(is_wanted != 0, std::memory_order_relaxed);
}
__attribute__((visibility("default"))) int64_t supnorm_run_arithmetic(int kind, int64_t count) {
  return supnorm::kernels().run_arithmetic(static_cast<supnorm::Arithmetic>(kind), count);
}
}
