// Runs kernels of backend/cuda on the host: the threads of a block are fibers that run one after the
// other until they meet a barrier or a shuffle. Finds what a GPU would only sometimes show: a missing
// barrier (threads run in ascending and, every other launch, in descending order), an uninitialised
// shared array (poisoned when a block first meets it), a barrier that not all threads reach.
#include "backend/cuda/gpu.cuh"
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
#endif

gpu_index threadIdx, blockIdx, blockDim, gridDim;

// stack_switch(save, to): leaves the stack pointer in *save, what a call must preserve below it, and
// goes on where `to` was left so. Not swapcontext, which enters the system twice for signal masks:
// half of the tests' time. stack_new gives the first `to` of a stack, on which `main` then runs.
#if defined(__x86_64__) || defined(__aarch64__)
typedef void *stack_pointer;
extern "C" void gpu_host_switch(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n"
    ".p2align 4\n"
    ".globl gpu_host_switch\n"
    ".type gpu_host_switch, @function\n"
    "gpu_host_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size gpu_host_switch, .-gpu_host_switch\n");
enum { SAVED = 8, RETURN_AT = 6 }; // words; the last stays 0: main's caller
#else
asm(".text\n"
    ".p2align 4\n"
    ".globl gpu_host_switch\n"
    ".type gpu_host_switch, %function\n"
    "gpu_host_switch:\n"
    "  stp x29, x30, [sp, #-160]!\n"
    "  stp x19, x20, [sp, #16]\n  stp x21, x22, [sp, #32]\n  stp x23, x24, [sp, #48]\n"
    "  stp x25, x26, [sp, #64]\n  stp x27, x28, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #16]\n  ldp x21, x22, [sp, #32]\n  ldp x23, x24, [sp, #48]\n"
    "  ldp x25, x26, [sp, #64]\n  ldp x27, x28, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n"
    "  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  ldp x29, x30, [sp], #160\n"
    "  ret\n"
    ".size gpu_host_switch, .-gpu_host_switch\n");
enum { SAVED = 20, RETURN_AT = 1 };
#endif

static void stack_switch(stack_pointer *save, stack_pointer *to)
{
    gpu_host_switch(save, *to);
}

static void stack_new(stack_pointer *to, char *stack, size_t bytes, void (*main)())
{
    void **frame = (void **)(((uintptr_t)stack + bytes) & ~(uintptr_t)15) - SAVED;
    memset(frame, 0, SAVED * sizeof *frame);
    memcpy(frame + RETURN_AT, &main, sizeof main);
    *to = frame;
}
#else
typedef ucontext_t stack_pointer;

static void stack_switch(stack_pointer *save, stack_pointer *to)
{
    swapcontext(save, to);
}

static void stack_new(stack_pointer *to, char *stack, size_t bytes, void (*main)())
{
    getcontext(to);
    to->uc_stack.ss_sp = stack;
    to->uc_stack.ss_size = bytes;
    to->uc_link = nullptr;
    makecontext(to, main, 0);
}
#endif

namespace {

const size_t STACK = 128 << 10;
enum state { READY, AT_BLOCK, AT_WARP, DONE };

struct fiber {
    stack_pointer context;
    char *stack;
    void *fake; // ASan's
    unsigned thread;
};

struct scheduler {
    stack_pointer context;
    void *fake;
    const void *stack_bottom;
    size_t stack_size;
    std::vector<fiber *> idle;
    std::vector<fiber *> of; // [thread] the fiber that a waiting thread sleeps on
    std::vector<state> at;
    // [thread] what its even and its odd shuffles pass on: none writes again before all have read, as
    // that is two shuffles later
    std::vector<std::array<float, 2>> slot;
    std::vector<unsigned> shuffles; // [thread] so far
    fiber *current;
    const std::function<void()> *body;
    unsigned next, n; // threads of this block not yet begun: next..n-1, in order of `order`
    bool descending;
    std::vector<void *> poisoned; // shared arrays that this block has met
    std::vector<fiber *> all;
    ~scheduler()
    {
        for (fiber *f : all) {
            free(f->stack);
            delete f;
        }
    }
} s;

unsigned thread_at(unsigned i)
{
    return s.descending ? s.n - 1 - i : i;
}

void enter_fiber(fiber *f)
{
    s.current = f;
    threadIdx.x = f->thread;
#ifdef HAVE_ASAN
    __sanitizer_start_switch_fiber(&s.fake, f->stack, STACK);
#endif
    stack_switch(&s.context, &f->context);
#ifdef HAVE_ASAN
    __sanitizer_finish_switch_fiber(s.fake, nullptr, nullptr);
#endif
}

void leave_fiber(fiber *f)
{
#ifdef HAVE_ASAN
    __sanitizer_start_switch_fiber(&f->fake, s.stack_bottom, s.stack_size);
#endif
    stack_switch(&f->context, &s.context);
#ifdef HAVE_ASAN
    __sanitizer_finish_switch_fiber(f->fake, &s.stack_bottom, &s.stack_size);
#endif
}

// Takes one thread after the other while none waits; a fiber that waits keeps its thread.
void fiber_main()
{
#ifdef HAVE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &s.stack_bottom, &s.stack_size);
#endif
    for (;;) {
        fiber *f = s.current;
        (*s.body)();
        s.at[f->thread] = DONE;
        if (s.next < s.n) {
            f->thread = threadIdx.x = thread_at(s.next++);
            continue;
        }
        s.idle.push_back(f);
        leave_fiber(f);
    }
}

fiber *new_fiber()
{
    fiber *f = new fiber();
    s.all.push_back(f);
    f->stack = (char *)malloc(STACK);
    stack_new(&f->context, f->stack, STACK, fiber_main);
    return f;
}

fiber *take_fiber()
{
    if (!s.idle.empty()) {
        fiber *idle = s.idle.back();
        s.idle.pop_back();
        return idle;
    }
    return new_fiber();
}

void wait_at(state where)
{
    fiber *f = s.current;
    s.of[f->thread] = f;
    s.at[f->thread] = where;
    leave_fiber(f);
    threadIdx.x = f->thread;
}

// Whether all threads lo..hi-1 that still run wait at `where`.
bool all_wait(unsigned lo, unsigned hi, state where)
{
    for (unsigned t = lo; t < hi; t++)
        if (s.at[t] != where && s.at[t] != DONE)
            return false;
    return true;
}

bool release(unsigned lo, unsigned hi, state where)
{
    if (!all_wait(lo, hi, where))
        return false;
    bool any = false;
    for (unsigned t = lo; t < hi; t++)
        if (s.at[t] == where) {
            s.at[t] = READY;
            any = true;
        }
    return any;
}

void run_block()
{
    s.poisoned.clear();
    s.next = 0;
    for (unsigned t = 0; t < s.n; t++)
        s.at[t] = READY, s.of[t] = nullptr, s.shuffles[t] = 0;
    for (;;) {
        bool ran = false;
        while (s.next < s.n) { // begin the threads that have not begun
            fiber *f = take_fiber();
            f->thread = thread_at(s.next++);
            enter_fiber(f);
            ran = true;
        }
        for (unsigned i = 0; i < s.n; i++) { // go on with those that were released
            unsigned t = thread_at(i);
            if (s.at[t] == READY && s.of[t]) {
                fiber *f = s.of[t];
                s.of[t] = nullptr;
                enter_fiber(f);
                ran = true;
            }
        }
        bool released = false;
        for (unsigned w = 0; w < s.n; w += GPU_WARP)
            released |= release(w, w + GPU_WARP < s.n ? w + GPU_WARP : s.n, AT_WARP);
        if (!released)
            released = release(0, s.n, AT_BLOCK);
        if (released || ran)
            continue;
        for (unsigned t = 0; t < s.n; t++)
            if (s.at[t] != DONE) {
                fprintf(stderr, "gpu_host: thread %u of block %u waits at a %s that others do not reach\n",
                        t, blockIdx.x, s.at[t] == AT_BLOCK ? "barrier" : "shuffle");
                abort();
            }
        return;
    }
}

float shuffle_from(float v, unsigned source)
{
    unsigned me = threadIdx.x, turn = s.shuffles[me]++ % 2;
    s.slot[me][turn] = v;
    wait_at(AT_WARP);
    return source < s.n ? s.slot[source][turn] : v;
}

} // namespace

extern "C" void __syncthreads(void)
{
    wait_at(AT_BLOCK);
}

extern "C" float gpu_shuffle_xor(float v, int lane_mask)
{
    return shuffle_from(v, threadIdx.x ^ (unsigned)lane_mask);
}

extern "C" float gpu_shuffle(float v, int lane)
{
    return shuffle_from(v, threadIdx.x / GPU_WARP * GPU_WARP + (unsigned)lane);
}

void gpu_host_shared(void *p, size_t bytes)
{
    for (void *q : s.poisoned)
        if (q == p)
            return;
    s.poisoned.push_back(p);
    memset(p, 0xff, bytes);
}

// Set by a test with streams (fake.h): it takes the launch, runs it later, perhaps several times.
extern "C" {
int (*gpu_host_queue)(void *stream, const char *name, int (*run)(void *), void (*drop)(void *),
                      void *closure);
}

namespace {

struct launch {
    unsigned grid, block;
    std::function<void()> thread;
};

void run_blocks(unsigned grid, unsigned block, const std::function<void()> &thread)
{
    gridDim.x = grid;
    blockDim.x = block;
    s.body = &thread;
    s.n = block;
    s.descending = !s.descending;
    s.of.resize(1024);
    s.at.resize(1024);
    s.slot.resize(1024);
    s.shuffles.resize(1024);
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)
        run_block();
}

int launch_run(void *closure)
{
    launch *l = (launch *)closure;
    run_blocks(l->grid, l->block, l->thread);
    return 0;
}

void launch_drop(void *closure)
{
    delete (launch *)closure;
}

} // namespace

int gpu_host_launch(void *stream, const char *name, unsigned grid, unsigned block,
                    const std::function<void()> &thread)
{
    if (grid < 1 || block < 1 || block > 1024)
        return 9; // cudaErrorInvalidConfiguration
    if (gpu_host_queue)
        return gpu_host_queue(stream, name, launch_run, launch_drop,
                              new launch{grid, block, thread});
    run_blocks(grid, block, thread);
    return 0;
}
