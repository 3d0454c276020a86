// Threads of a GPU as fibres on one CPU thread.
//
// A fibre runs until it has to wait for others (a barrier, a shuffle, a vote), then the next one of
// its warp runs; a warp runs on until it waits for the others. All in ascending or in descending
// order, so that what works by the luck of one order fails in the other. Blocks run one by one.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace supnorm {

using int64 = long long;
using uint64 = unsigned long long;

namespace shim {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;

struct Copy {
  float* to;
  const float* from;
  int words;
  bool is_wanted;
};

struct Fibre {
  ucontext_t start;
  jmp_buf resume;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool has_started = false, has_ended = false;
  uint64 blocked_at = 0;
  std::vector<std::vector<Copy>> groups;  // committed, the oldest first
  std::vector<Copy> open;
};

// Those who wait for one another: `members` of them have to arrive.
struct Meeting {
  int members = 0, arrived = 0;
  uint64 generation = 0;
  uint32_t words[2][kWarp];

  void release_if_complete() {
    if (arrived < members || members == 0) return;
    arrived = 0;
    ++generation;
  }
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<Meeting> warps;
  Meeting all;
  jmp_buf scheduler;
  ucontext_t scheduler_context;
  std::vector<float> shared;
  std::function<void()> body;
  int current = 0;
  uint64 progress = 0;
};

inline Block* block = nullptr;
inline dim3 block_index, block_size, grid_size;

struct ThreadIndex {
  operator dim3() const { return {static_cast<unsigned>(block->current), 0, 0}; }
  struct X {
    operator int() const { return block->current; }
  } x;
};
inline ThreadIndex thread_index;

inline void fibre_main() {
  block->body();
  Fibre& fibre = block->fibres[static_cast<size_t>(block->current)];
  fibre.has_ended = true;
  ++block->progress;
  Meeting& warp = block->warps[static_cast<size_t>(block->current / kWarp)];
  --warp.members;
  --block->all.members;
  warp.release_if_complete();
  block->all.release_if_complete();
  _longjmp(block->scheduler, 1);
}

inline void yield() {
  if (_setjmp(block->fibres[static_cast<size_t>(block->current)].resume) == 0) {
    _longjmp(block->scheduler, 1);
  }
}

inline void meet(Meeting& meeting) {
  const uint64 generation = meeting.generation;
  ++meeting.arrived;
  ++block->progress;
  meeting.release_if_complete();
  while (meeting.generation == generation) yield();
}

inline Meeting& warp() { return block->warps[static_cast<size_t>(block->current / kWarp)]; }
inline int lane() { return block->current % kWarp; }

// Shows every lane what the others gave. The words of an exchange are overwritten two exchanges
// later, and by then every lane has read them.
inline const uint32_t* exchange(uint32_t word) {
  Meeting& meeting = warp();
  uint32_t* words = meeting.words[meeting.generation % 2];
  words[lane()] = word;
  meet(meeting);
  return words;
}

inline void resume(int index) {
  Fibre& fibre = block->fibres[static_cast<size_t>(index)];
  block->current = index;
  if (_setjmp(block->scheduler) != 0) return;
  if (fibre.has_started) _longjmp(fibre.resume, 1);
  fibre.has_started = true;
  getcontext(&fibre.start);
  fibre.start.uc_stack.ss_sp = fibre.stack.get();
  fibre.start.uc_stack.ss_size = kStackBytes;
  fibre.start.uc_link = nullptr;
  makecontext(&fibre.start, fibre_main, 0);
  setcontext(&fibre.start);
}

inline void start_block(Block& fresh, int num_threads) {
  const auto count = static_cast<size_t>(num_threads);
  fresh.warps.assign((count + kWarp - 1) / kWarp, Meeting());
  for (size_t t = 0; t < count; ++t) {
    Fibre& fibre = fresh.fibres[t];
    fibre.has_started = fibre.has_ended = false;
    fibre.groups.clear();
    fibre.open.clear();
    ++fresh.warps[t / kWarp].members;
  }
  fresh.all = Meeting();
  fresh.all.members = num_threads;
  memset(fresh.shared.data(), 0xff, fresh.shared.size() * sizeof(float));
}

// Runs the threads of a warp until they end or wait for other warps; returns whether any has run
// on.
inline bool run_warp(int first, bool is_ascending) {
  const int left = static_cast<int>(block->fibres.size()) - first;
  const int count = left < kWarp ? left : kWarp;
  const uint64 start = block->progress;
  for (uint64 before = start - 1; block->progress != before;) {
    before = block->progress;
    for (int step = 0; step < count; ++step) {
      const int index = first + (is_ascending ? step : count - 1 - step);
      if (!block->fibres[static_cast<size_t>(index)].has_ended) resume(index);
    }
  }
  return block->progress != start;
}

inline void run_block(bool is_ascending) {
  const int count = static_cast<int>(block->warps.size());
  while (block->all.members > 0) {
    bool has_run = false;
    for (int step = 0; step < count; ++step) {
      const int warp = is_ascending ? step : count - 1 - step;
      has_run = run_warp(warp * kWarp, is_ascending) || has_run;
    }
    if (!has_run) {
      fprintf(stderr, "shim: threads wait for others that never come\n");
      abort();
    }
  }
}

// Calls body once a thread.
inline void run_grid(dim3 grid, int num_threads, size_t shared_bytes, bool is_ascending,
                     std::function<void()> body) {
  Block fresh;
  fresh.fibres = std::vector<Fibre>(static_cast<size_t>(num_threads));
  fresh.shared.resize(shared_bytes / sizeof(float) + 4);
  fresh.body = std::move(body);
  block = &fresh;
  grid_size = grid;
  block_size = {static_cast<unsigned>(num_threads), 1, 1};
  const uint64 blocks = static_cast<uint64>(grid.x) * grid.y * grid.z;
  for (uint64 b = 0; b < blocks; ++b) {
    const uint64 at = is_ascending ? b : blocks - 1 - b;
    block_index = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                   static_cast<unsigned>(at / grid.x / grid.y)};
    start_block(fresh, num_threads);
    run_block(is_ascending);
  }
  block = nullptr;
}

}  // namespace shim
}  // namespace supnorm
