#include "emulator.hpp"
#include <ucontext.h>
#include <memory>
#include <vector>

Dim threadIdx, blockIdx, blockDim, gridDim;
uint64_t lanes[1024];

namespace {
constexpr std::size_t STACK = 64 * 1024;
struct Fiber {
    ucontext_t context;
    bool done;
    unsigned blocks, warps; // barriers arrived at
};
Fiber fibers[1024];
std::unique_ptr<char[]> stacks;
ucontext_t scheduler;
unsigned current;
void (*entry)(void**);
void** entry_arguments;

void give_way() { swapcontext(&fibers[current].context, &scheduler); }

void start() {
    entry(entry_arguments);
    fibers[current].done = true;
    give_way();
}

// Whether every fiber of first..end that runs has come as far as `self`.
bool all_there(unsigned first, unsigned end, unsigned Fiber::*count, unsigned least) {
    for (unsigned i = first; i < end; i++)
        if (!fibers[i].done && fibers[i].*count < least) return false;
    return true;
}

bool run_block(unsigned threads) {
    for (unsigned i = 0; i < threads; i++) {
        Fiber& f = fibers[i];
        f.done = false, f.blocks = f.warps = 0;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks.get() + i * STACK;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, start, 0);
    }
    for (bool running = true; running;) {
        running = false;
        for (unsigned i = 0; i < threads; i++) {
            if (fibers[i].done) continue;
            running = true;
            current = i;
            threadIdx = {i % blockDim.x, i / blockDim.x, 0};
            swapcontext(&scheduler, &fibers[i].context);
        }
    }
    return true;
}
} // namespace

void barrier() {
    unsigned self = current, threads = blockDim.x * blockDim.y;
    unsigned goal = ++fibers[self].blocks;
    while (!all_there(0, threads, &Fiber::blocks, goal)) give_way();
}

void warp_barrier() {
    unsigned self = current, threads = blockDim.x * blockDim.y, first = self & ~31u;
    unsigned goal = ++fibers[self].warps;
    while (!all_there(first, first + 32 < threads ? first + 32 : threads, &Fiber::warps, goal)) give_way();
}

// 0: done. 1: no kernel of that name.
extern "C" int emulate(const char* name, const unsigned* grid, const unsigned* block, void** arguments) {
    const Entry* found = nullptr;
    for (const Entry* list : {augment_kernels, crops_kernels, loss_kernels, optimiser_kernels})
        for (const Entry* e = list; e->name; e++)
            if (!std::strcmp(e->name, name)) found = e;
    if (!found) return 1;
    if (!stacks) stacks.reset(new char[1024 * STACK]);
    entry = found->call, entry_arguments = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned y = 0; y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
            blockIdx = {x, y, 0};
            run_block(block[0] * block[1]);
        }
    return 0;
}
