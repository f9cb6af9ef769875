/*
 * Whether a program's registers stay its own. Processes and threads keep numbers of their own in all general, SSE and AVX
 * registers, in the x87 stack, in MXCSR and the flags, and look at them again and again, while the system switches
 * between them, moves them from processor to processor, sends them signals and forks them.
 *
 * usage: registers [PART [SECONDS]]
 * PART: switches, signals, forks, threads, first (what a new program finds), or all. SECONDS (3) each.
 */
#include "hostile.h"
#include <cpuid.h>
#include <immintrin.h>
#include <sched.h>

static double seconds = 3;
static int has_avx, has_avx512;

/* The registers that are looked at. */
typedef struct {
	uint64_t general[14];
	uint8_t vectors[16][64] __attribute__((aligned(64)));
	uint8_t high[16][64] __attribute__((aligned(64)));
	uint64_t masks[8];
	double stack[4];
	uint32_t mxcsr;
	uint16_t control;
	uint64_t flags;
} State;

#define LIST16(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)

__attribute__((noinline)) static void load_vectors(const State *state)
{
	if (has_avx512) {
#define DO(n) asm volatile("vmovdqa64 %0, %%zmm" #n ::"m"(state->vectors[n]));
		LIST16(DO)
#undef DO
#define DO(n) asm volatile("vmovdqa64 %0, %%zmm%c1" ::"m"(state->high[n]), "i"(16 + n));
		LIST16(DO)
#undef DO
#define DO(n) asm volatile("kmovq %0, %%k" #n ::"m"(state->masks[n]));
		DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#undef DO
	} else if (has_avx) {
#define DO(n) asm volatile("vmovdqa %0, %%ymm" #n ::"m"(state->vectors[n]));
		LIST16(DO)
#undef DO
	} else {
#define DO(n) asm volatile("movdqa %0, %%xmm" #n ::"m"(state->vectors[n]));
		LIST16(DO)
#undef DO
	}
	asm volatile("fninit\nfldcw %0\nldmxcsr %1" ::"m"(state->control), "m"(state->mxcsr));
	for (int i = 0; i < 4; i++)
		asm volatile("fldl %0" ::"m"(state->stack[i]));
}

__attribute__((noinline)) static void store_vectors(State *state)
{
	if (has_avx512) {
#define DO(n) asm volatile("vmovdqa64 %%zmm" #n ", %0" : "=m"(state->vectors[n]));
		LIST16(DO)
#undef DO
#define DO(n) asm volatile("vmovdqa64 %%zmm%c1, %0" : "=m"(state->high[n]) : "i"(16 + n));
		LIST16(DO)
#undef DO
#define DO(n) asm volatile("kmovq %%k" #n ", %0" : "=m"(state->masks[n]));
		DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#undef DO
	} else if (has_avx) {
#define DO(n) asm volatile("vmovdqa %%ymm" #n ", %0" : "=m"(state->vectors[n]));
		LIST16(DO)
#undef DO
	} else {
#define DO(n) asm volatile("movdqa %%xmm" #n ", %0" : "=m"(state->vectors[n]));
		LIST16(DO)
#undef DO
	}
	asm volatile("fnstcw %0\nstmxcsr %1" : "=m"(state->control), "=m"(state->mxcsr));
	for (int i = 3; i >= 0; i--)
		asm volatile("fstpl %0" : "=m"(state->stack[i]));
}

/*
 * Loads the general registers and the flags from `in`, does a system call (or only spins, if `number` is -1), stores them
 * in `out` and gives what the call returned. A system call may change rax, rcx and r11; an interrupt nothing.
 */
long general_round(const State *in, State *out, long number, long first, long second);

asm(".pushsection .text\n"
    "general_round:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	push %rsi\n"
    "	mov %rdi, %r11\n"
    "	mov %rdx, %rax\n"
    "	mov %rcx, %rdi\n"
    "	mov %r8, %rsi\n"
    "	mov (%r11), %rbx\n	mov 8(%r11), %rdx\n	mov 16(%r11), %rbp\n	mov 24(%r11), %r8\n"
    "	mov 32(%r11), %r9\n	mov 40(%r11), %r10\n	mov 48(%r11), %r12\n	mov 56(%r11), %r13\n"
    "	mov 64(%r11), %r14\n	mov 72(%r11), %r15\n"
    "	pushq 80(%r11)\n"
    "	mov $20000, %ecx\n"
    "	cmp $-1, %rax\n"
    "	je 1f\n"
    "	popfq\n"
    "	syscall\n"
    "	jmp 3f\n"
    "1:	popfq\n"
    "2:	lea -1(%rcx), %rcx\n" /* no instruction here changes a flag */
    "	jrcxz 3f\n"
    "	jmp 2b\n"
    "3:	pushfq\n"
    "	cld\n"
    "	pop %rcx\n"
    "	pop %r11\n"
    "	mov %rcx, 80(%r11)\n"
    "	mov %rbx, (%r11)\n	mov %rdx, 8(%r11)\n	mov %rbp, 16(%r11)\n	mov %r8, 24(%r11)\n"
    "	mov %r9, 32(%r11)\n	mov %r10, 40(%r11)\n	mov %r12, 48(%r11)\n	mov %r13, 56(%r11)\n"
    "	mov %r14, 64(%r11)\n	mov %r15, 72(%r11)\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n"
    ".popsection\n");

static void invent(State *state, Random *random)
{
	memset(state, 0, sizeof *state);
	for (size_t i = 0; i < COUNT(state->general); i++)
		state->general[i] = random_next(random);
	/* Flags: carry, parity, adjust, zero, sign, overflow, and direction, at random. */
	state->general[10] = (random_next(random) & 0xcd5) | 2;
	for (int i = 0; i < 16; i++)
		for (int byte = 0; byte < (has_avx512 ? 64 : has_avx ? 32 : 16); byte++) {
			state->vectors[i][byte] = random_next(random) >> 20;
			state->high[i][byte] = has_avx512 ? random_next(random) >> 20 : 0;
		}
	for (int i = 0; i < 8; i++)
		state->masks[i] = has_avx512 ? random_next(random) : 0;
	for (int i = 0; i < 4; i++)
		state->stack[i] = (double)(int64_t)random_next(random);
	state->mxcsr = 0x1f80 | (random_below(random, 4) << 13);
	state->control = 0x37f & ~0xc00;
	state->control |= random_below(random, 4) << 10;
}

static void compare_general(const char *what, const State *wanted, const State *found)
{
	for (int i = 0; i < 10; i++)
		if (wanted->general[i] != found->general[i])
			wrong("%s: general register %d is %#lx, was %#lx", what, i, found->general[i], wanted->general[i]);
	/* Interrupts are always on. */
	if ((wanted->general[10] | 0x200) != found->general[10])
		wrong("%s: flags are %#lx, were %#lx", what, found->general[10], wanted->general[10]);
}

static void compare_vectors(const char *what, const State *wanted, const State *found)
{
	if (memcmp(wanted->vectors, found->vectors, sizeof wanted->vectors))
		for (int i = 0; i < 16; i++)
			for (int byte = 0; byte < 64; byte++)
				if (wanted->vectors[i][byte] != found->vectors[i][byte]) {
					wrong("%s: byte %d of vector register %d is %#x, was %#x", what, byte, i,
					      found->vectors[i][byte], wanted->vectors[i][byte]);
					break;
				}
	if (memcmp(wanted->high, found->high, sizeof wanted->high))
		wrong("%s: one of zmm16..31 has changed", what);
	if (memcmp(wanted->masks, found->masks, sizeof wanted->masks))
		wrong("%s: a mask register has changed", what);
	for (int i = 0; i < 4; i++)
		if (wanted->stack[i] != found->stack[i])
			wrong("%s: x87 %d is %g, was %g", what, i, found->stack[i], wanted->stack[i]);
	if (wanted->mxcsr != (found->mxcsr & ~0x3fu))
		wrong("%s: mxcsr is %#x, was %#x", what, found->mxcsr, wanted->mxcsr);
	if (wanted->control != found->control)
		wrong("%s: the x87 control word is %#x, was %#x", what, found->control, wanted->control);
}

/* Keeps its numbers in the registers until the time is up; `call` chooses what happens between loading and looking. */
static void keep(const char *what, uint64_t seed, void (*between)(Random *, const State *, State *))
{
	Random random = random_from(seed);
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	State *wanted = aligned_alloc(64, sizeof *wanted), *found = aligned_alloc(64, sizeof *found);

	while (now_ns() < end) {
		invent(wanted, &random);
		memset(found, 0, sizeof *found);
		atomic_signal_fence(memory_order_seq_cst);
		load_vectors(wanted);
		for (int i = 0; i < 5; i++)
			between(&random, wanted, found);
		store_vectors(found);
		compare_general(what, wanted, found);
		compare_vectors(what, wanted, found);
	}
	free(wanted);
	free(found);
}

static void spin_or_yield(Random *random, const State *in, State *out)
{
	static const long numbers[] = {-1, -1, SYS_getppid, SYS_sched_yield, 100000};

	general_round(in, out, numbers[random_below(random, COUNT(numbers))], 0, 0);
}

static unsigned processors(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static void switches(void)
{
	unsigned count = processors() * 3;

	for (unsigned i = 0; i < count; i++)
		if (fork() == 0) {
			keep("switches", i + 1, spin_or_yield);
			_exit(0);
		}
	MUST(collect_all() == count);
}

/* A handler that uses every register for itself. */
static void scramble(int number)
{
	State own, found;
	Random random = random_from(number * 77);

	invent(&own, &random);
	memset(&found, 0, sizeof found);
	load_vectors(&own);
	store_vectors(&found);
	compare_vectors("a handler", &own, &found);
}

static pid_t own_thread(void)
{
	return syscall(SYS_gettid);
}

static void raise_or_spin(Random *random, const State *in, State *out)
{
	static __thread pid_t self;

	if (random_below(random, 2)) {
		if (!self)
			self = own_thread();
		MUST(general_round(in, out, SYS_tkill, self, SIGUSR1) == 0);
	} else {
		general_round(in, out, -1, 0, 0);
	}
}

/* Signals by itself, and by a timer at any instruction. */
static void signals(void)
{
	unsigned count = processors() * 2;

	for (unsigned i = 0; i < count; i++)
		if (fork() == 0) {
			struct sigaction action = {.sa_handler = scramble};
			struct itimerval often = {{0, 1700}, {0, 1700}};
			static char stack[1 << 16];
			stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};

			action.sa_flags = SA_ONSTACK | SA_RESTART;
			sigfillset(&action.sa_mask);
			sigaltstack(&other, NULL);
			sigaction(SIGUSR1, &action, NULL);
			sigaction(SIGALRM, &action, NULL);
			setitimer(ITIMER_REAL, &often, NULL);
			keep("signals", i + 100, raise_or_spin);
			_exit(0);
		}
	MUST(collect_all() == count);
}

static void fork_now(Random *random, const State *in, State *out)
{
	if (random_below(random, 8)) {
		general_round(in, out, -1, 0, 0);
		return;
	}
	long child = general_round(in, out, SYS_fork, 0, 0);
	if (child == 0) {
		State *found = out;

		general_round(in, out, SYS_getppid, 0, 0);
		store_vectors(found);
		compare_general("a forked child", in, found);
		compare_vectors("a forked child", in, found);
		syscall(SYS_exit, 0);
	}
	MUST(child > 0 && waitpid(child, NULL, 0) == child);
	load_vectors(in);
}

static void forks(void)
{
	unsigned count = processors() + 1;

	for (unsigned i = 0; i < count; i++)
		if (fork() == 0) {
			keep("forks", i + 200, fork_now);
			_exit(0);
		}
	MUST(collect_all() == count);
}

static void *thread_life(void *number)
{
	keep("threads", (uintptr_t)number + 300, raise_or_spin);
	return NULL;
}

static void nothing(int number)
{
	(void)number;
}

static void threads(void)
{
	pthread_t many[32];
	unsigned count = processors() * 2 < 32 ? processors() * 2 : 32;
	struct sigaction action = {.sa_handler = nothing};

	sigaction(SIGUSR1, &action, NULL);
	for (unsigned i = 0; i < count; i++)
		MUST(pthread_create(&many[i], NULL, thread_life, (void *)(uintptr_t)i) == 0);
	for (unsigned i = 0; i < count; i++)
		pthread_join(many[i], NULL);
}

/* A new program finds clean registers, whatever the one before left. */
static void first(void)
{
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();

		if (child == 0) {
			State *dirty = aligned_alloc(64, sizeof *dirty);
			Random random = random_from(i);

			invent(dirty, &random);
			load_vectors(dirty);
			char *const arguments[] = {"registers", "--look", NULL};
			syscall(SYS_execve, "/proc/self/exe", arguments, NULL);
			_exit(1);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child && status == 0);
	}
}

static uint32_t first_mxcsr;
static uint16_t first_control;
static uint8_t first_high[16];

/* Before anything else in the program runs: registers the C library doesn't touch on its way here. */
static void look(void)
{
	asm volatile("stmxcsr %0\nfnstcw %1\nmovdqu %%xmm15, %2" : "=m"(first_mxcsr), "=m"(first_control), "=m"(first_high));
}

__attribute__((section(".preinit_array"), used)) static void (*const look_first)(void) = look;

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"switches", switches}, {"signals", signals}, {"forks", forks}, {"threads", threads}, {"first", first},
	};

	if (argc > 1 && strcmp(argv[1], "--look") == 0) {
		static const uint8_t zero[16];
		return first_mxcsr != 0x1f80 || first_control != 0x37f || memcmp(first_high, zero, 16) != 0;
	}
	__builtin_cpu_init();
	has_avx = __builtin_cpu_supports("avx2");
	has_avx512 = __builtin_cpu_supports("avx512bw");
	printf("vectors of %d bytes\n", has_avx512 ? 64 : has_avx ? 32 : 16);
	if (argc > 2)
		seconds = atof(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
