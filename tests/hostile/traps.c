/*
 * Instructions, flags, segments and signal frames that a program should not use: each ends in the signal Linux gives, and
 * the system goes on.
 *
 * usage: traps [PART]
 * PART: instructions, flags, segments, ends (of the address space), frames (rt_sigreturn), steps (the trap flag), or all.
 */
#include "hostile.h"
#include <asm/prctl.h>
#include <sys/ucontext.h>

/* Runs something in a child; gives its wait status, with si_code in the upper half if a signal was caught. */
static struct {
	int number, code;
	void *address;
	uintptr_t rip;
} *caught;

static void on_signal(int number, siginfo_t *information, void *context)
{
	caught->number = number;
	caught->code = information->si_code;
	caught->address = information->si_addr;
	caught->rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	syscall(SYS_exit_group, 100);
}

static int run(void (*what)(void *), void *argument)
{
	memset(caught, 0, sizeof *caught);
	pid_t child = fork();

	if (child == 0) {
		static char stack[1 << 16];
		stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
		struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
		static const int numbers[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP, SIGSYS};

		sigaltstack(&other, NULL);
		for (size_t i = 0; i < COUNT(numbers); i++)
			sigaction(numbers[i], &action, NULL);
		alarm(20);
		what(argument);
		_exit(50);
	}
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

/* That it ended with this signal and code; 0: it went on. */
static void expect(const char *name, int status, int number, int code)
{
	int wanted = number ? 100 << 8 : 50 << 8;

	if (status != wanted)
		wrong("%s: status %#x", name, status);
	else if (caught->number != number || caught->code != code)
		wrong("%s: signal %d code %d, not %d code %d", name, caught->number, caught->code, number, code);
}

/* The instructions, each with the signal it ends in: X(name, text, signal, code). */
#define INSTRUCTIONS(X) \
	X(ud2, "ud2", SIGILL, ILL_ILLOPN) \
	X(hlt, "hlt", SIGSEGV, SI_KERNEL) \
	X(cli, "cli", SIGSEGV, SI_KERNEL) \
	X(sti, "sti", SIGSEGV, SI_KERNEL) \
	X(in, "in $0x80, %%al", SIGSEGV, SI_KERNEL) \
	X(out, "mov $0xf4, %%edx\nout %%al, %%dx", SIGSEGV, SI_KERNEL) \
	X(rdmsr, "mov $0xc0000080, %%ecx\nrdmsr", SIGSEGV, SI_KERNEL) \
	X(wrmsr, "mov $0xc0000082, %%ecx\nwrmsr", SIGSEGV, SI_KERNEL) \
	X(cr0, "mov %%cr0, %%rax", SIGSEGV, SI_KERNEL) \
	X(cr3, "mov %%rax, %%cr3", SIGSEGV, SI_KERNEL) \
	X(dr7, "mov %%dr7, %%rax", SIGSEGV, SI_KERNEL) \
	X(invlpg, "invlpg (%%rsp)", SIGSEGV, SI_KERNEL) \
	X(wbinvd, "wbinvd", SIGSEGV, SI_KERNEL) \
	X(clts, "clts", SIGSEGV, SI_KERNEL) \
	X(lgdt, "lgdt (%%rsp)", SIGSEGV, SI_KERNEL) \
	X(ltr, "mov $0x28, %%eax\nltr %%ax", SIGSEGV, SI_KERNEL) \
	X(swapgs, "swapgs", SIGSEGV, SI_KERNEL) \
	X(sysret, "sysretq", SIGSEGV, SI_KERNEL) \
	X(int3, "int3", SIGTRAP, SI_KERNEL) \
	X(int0, "int $0", SIGSEGV, SI_KERNEL) \
	X(int2, "int $2", SIGSEGV, SI_KERNEL) \
	X(int8, "int $8", SIGSEGV, SI_KERNEL) \
	X(int14, "int $14", SIGSEGV, SI_KERNEL) \
	X(int18, "int $18", SIGSEGV, SI_KERNEL) \
	X(int32, "int $32", SIGSEGV, SI_KERNEL) \
	X(int0xf0, "int $0xf0", SIGSEGV, SI_KERNEL) \
	X(int0xf1, "int $0xf1", SIGSEGV, SI_KERNEL) \
	X(int0xf2, "int $0xf2", SIGSEGV, SI_KERNEL) \
	X(int0xff, "int $0xff", SIGSEGV, SI_KERNEL) \
	X(divide, "xor %%ecx, %%ecx\nmov $1, %%eax\ncltd\nidiv %%ecx", SIGFPE, FPE_INTDIV) \
	X(overflow, "mov $0x80000000, %%eax\ncltd\nmov $-1, %%ecx\nidiv %%ecx", SIGFPE, FPE_INTDIV) \
	X(noncanonical, "mov $0x8000000000000000, %%rax\nmov (%%rax), %%rax", SIGSEGV, SI_KERNEL) \
	X(null, "xor %%eax, %%eax\nmov (%%rax), %%rax", SIGSEGV, SEGV_MAPERR) \
	X(kernel, "mov $0xffffffff80000000, %%rax\nmov (%%rax), %%rax", SIGSEGV, SEGV_MAPERR) \
	X(write_text, "lea 0(%%rip), %%rax\nmovb $0, (%%rax)", SIGSEGV, SEGV_ACCERR) \
	X(run_stack, "movb $0xc3, -8(%%rsp)\nlea -8(%%rsp), %%rax\njmp *%%rax", SIGSEGV, SEGV_ACCERR) \
	X(run_null, "xor %%eax, %%eax\njmp *%%rax", SIGSEGV, SEGV_MAPERR) \
	X(run_high, "mov $0xffffffff80000000, %%rax\njmp *%%rax", SIGSEGV, SEGV_MAPERR) \
	X(x87, "fninit\npush $0x37b\nfldcw (%%rsp)\nfld1\nfldz\nfdivrp\nfwait\npop %%rax", SIGFPE, FPE_FLTDIV) \
	X(unaligned, "lea 1(%%rsp), %%rax\nmovaps (%%rax), %%xmm0", SIGSEGV, SI_KERNEL) \
	X(xsetbv, "xor %%ecx, %%ecx\nxsetbv", SIGSEGV, SI_KERNEL)

#define RUN_IT(name, text, number, code)                                                                               \
	static void name(void *argument)                                                                               \
	{                                                                                                              \
		(void)argument;                                                                                        \
		asm volatile(text ::: "rax", "rbx", "rcx", "rdx", "memory", "cc");                                     \
	}
INSTRUCTIONS(RUN_IT)

#define EXPECT_IT(name, text, number, code) expect(text, run(name, NULL), number, code);

static void instructions(void)
{
	INSTRUCTIONS(EXPECT_IT)
}

static int went_on(void (*what)(void *), void *argument)
{
	return run(what, argument) == 50 << 8;
}

static void set_flags(void *argument)
{
	uintptr_t flags = (uintptr_t)argument;

	for (int i = 0; i < 1000; i++) {
		asm volatile("push %0\npopfq\nmov $110, %%eax\nsyscall\npushfq\npop %%rax\npush $0x202\npopfq" ::"r"(flags)
			     : "rax", "rcx", "r11", "memory", "cc");
		if (i % 100 == 0) {
			/* Long enough for an interrupt, and a page fault. */
			asm volatile("push %0\npopfq\nmov $100000, %%ecx\n1: lea -1(%%rcx), %%rcx\njrcxz 2f\njmp 1b\n2:\n"
				     "push $0x202\npopfq" ::"r"(flags)
				     : "rcx", "memory", "cc");
			char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			asm volatile("push %0\npopfq\nmovb $1, (%1)\npush $0x202\npopfq" ::"r"(flags), "r"(memory)
				     : "memory", "cc");
			munmap(memory, PAGE);
		}
	}
}

static void flags(void)
{
	/* Nested task, alignment check, identification, direction, resume, I/O privilege, interrupts off, virtual ones. */
	static const uintptr_t all[] = {0x4000, 0x40000, 0x200000, 0x400, 0x10000, 0x3000, 0, 0x20000, 0x80000, 0x100000};

	for (size_t i = 0; i < COUNT(all); i++)
		if (!went_on(set_flags, (void *)(all[i] | 2)))
			wrong("flag %#lx: signal %d", all[i], caught->number);
}

static void load_segments(void *argument)
{
	uintptr_t selector = (uintptr_t)argument;

	asm volatile("mov %0, %%ds\nmov %0, %%es" ::"r"((int)selector));
	for (int i = 0; i < 100; i++)
		getppid();
	asm volatile("mov %0, %%gs" ::"r"((int)selector));
	usleep(1000);
	/* FS last: after it no C library function may be called. */
	uintptr_t base;
	syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
	asm volatile("mov %0, %%fs\n"
		     "mov $24, %%eax\nsyscall\n"
		     "mov $158, %%eax\nmov $0x1002, %%edi\nmov %1, %%rsi\nsyscall" ::"r"((int)selector),
		     "r"(base)
		     : "rax", "rcx", "r11", "rdi", "rsi", "memory");
}

static void far_jump(void *argument)
{
	struct __attribute__((packed)) {
		uint32_t offset;
		uint16_t selector;
	} target = {0x1000, (uintptr_t)argument};

	asm volatile("ljmp *%0" ::"m"(target));
}

static void far_return(void *argument)
{
	asm volatile("push %0\nlea 1f(%%rip), %%rax\npush %%rax\nlretq\n1:" ::"r"(argument) : "rax", "memory");
}

static void interrupt_return(void *argument)
{
	asm volatile("mov %%rsp, %%rcx\nmov %%ss, %%eax\npush %%rax\npush %%rcx\npushfq\npush %0\nlea 1f(%%rip), %%rax\n"
		     "push %%rax\niretq\n1:" ::"r"(argument)
		     : "rax", "rcx", "memory");
}

/* Every selector there may be, for each use. (QEMU's own far returns do not work from user mode where SMAP is on.) */
static void segments(void)
{
	unsigned loaded = 0, jumped = 0;

	for (uintptr_t selector = 0; selector < 0x100; selector++) {
		int status = run(load_segments, (void *)selector);

		if (status != 50 << 8 && (status != 100 << 8 || (caught->number != SIGSEGV && caught->number != SIGBUS)))
			wrong("selector %#lx: status %#x", selector, status);
		loaded += status == 50 << 8;
		void (*const ways[])(void *) = {far_jump, far_return, interrupt_return};
		for (size_t way = 0; way < COUNT(ways); way++) {
			status = run(ways[way], (void *)selector);
			int number = caught->number;

			if (status != 50 << 8 &&
			    (status != 100 << 8 || (number != SIGSEGV && number != SIGBUS && number != SIGILL)))
				wrong("jump %zu to selector %#lx: status %#x", way, selector, status);
			jumped += status == 50 << 8;
		}
	}
	printf("%u selectors could be loaded, %u jumped to\n", loaded, jumped);
	MUST(loaded >= 4);
	/* A base outside of the program's half. */
	FAILS(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x8000000000000000), EPERM);
	FAILS(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000), EPERM);
	FAILS(syscall(SYS_arch_prctl, ARCH_GET_FS, 0xffff800000000000), EFAULT);
}

/* `syscall` as the last instruction before the end of the program's half, and calls that return to strange places. */
static void jump_to(void *argument)
{
	asm volatile("mov $39, %%eax\njmp *%0" ::"r"(argument) : "rax", "rcx", "r11", "memory");
}

static void ends(void)
{
	char *last = (char *)0x7fffffffe000;
	const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	if (mmap(last, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0) == last) {
		memset(last, 0x90, PAGE);
		memcpy(last + PAGE - 2, "\x0f\x05", 2);
		int status = run(jump_to, last + PAGE - 2);
		expect("syscall at the end", status, SIGSEGV, SEGV_MAPERR);
		MUST(caught->rip == 0x7ffffffff000);
		memcpy(last + PAGE - 2, "\x90\x90", 2);
		expect("running off the end", run(jump_to, last + PAGE - 2), SIGSEGV, SEGV_MAPERR);
		memcpy(last + PAGE - 1, "\xe8", 1);
		expect("half an instruction", run(jump_to, last + PAGE - 1), SIGSEGV, SEGV_MAPERR);
		munmap(last, PAGE);
	}
	FAILS((long)mmap((void *)0x7ffffffff000, PAGE, PROT_EXEC | PROT_READ, fixed, -1, 0), ENOMEM);
	expect("beyond the end", run(jump_to, (void *)0x100000000000000), SIGSEGV, SI_KERNEL);
	expect("in the hole", run(jump_to, (void *)0x8000000000000000), SIGSEGV, SI_KERNEL);
	expect("before the kernel", run(jump_to, (void *)0xfeffffffffffffff), SIGSEGV, SI_KERNEL);
	expect("in the kernel", run(jump_to, (void *)0xffff800000000000), SIGSEGV, SEGV_MAPERR);
	expect("the last byte", run(jump_to, (void *)-1), SIGSEGV, SEGV_MAPERR);
}

/* What a hostile handler does to its frame. */
static uint64_t frame_seed;
static const void *place;

static void forge(int number, siginfo_t *information, void *context)
{
	ucontext_t *frame = context;
	Random random = random_from(frame_seed);
	static const int64_t bases[] = {0, -1, 0x7fffffffffff, 0x800000000000, (int64_t)0xffff800000000000,
					(int64_t)0x8000000000000000, 0x7ffffffff000, 42};

	(void)number;
	(void)information;
	for (uint64_t i = 1 + random_below(&random, 4); i > 0; i--) {
		uint64_t value = bases[random_below(&random, COUNT(bases))] + random_below(&random, 3) - 1;

		switch (random_below(&random, 9)) {
		case 0:
			frame->uc_mcontext.gregs[REG_RIP] = value;
			break;
		case 1:
			frame->uc_mcontext.gregs[REG_RSP] = value;
			break;
		case 2:
			frame->uc_mcontext.gregs[REG_EFL] = random_next(&random);
			break;
		case 3:
			frame->uc_mcontext.gregs[REG_CSGSFS] = random_next(&random);
			break;
		case 4:
			frame->uc_mcontext.fpregs = (void *)value;
			break;
		case 5:
			((uint8_t *)frame->uc_mcontext.fpregs)[random_below(&random, 832)] = random_next(&random);
			break;
		case 6:
			/* The header of the extended state: which components there are, and what must be zero. */
			((uint8_t *)frame->uc_mcontext.fpregs)[512 + random_below(&random, 64)] = random_next(&random);
			break;
		case 7:
			((uint8_t *)frame->uc_mcontext.fpregs)[464 + random_below(&random, 48)] = random_next(&random);
			break;
		default:
			((uint8_t *)frame)[random_below(&random, sizeof *frame)] = random_next(&random);
		}
	}
}

static void return_forged(void *argument)
{
	struct sigaction action = {.sa_sigaction = forge, .sa_flags = SA_SIGINFO};

	frame_seed = (uintptr_t)argument;
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	for (int i = 0; i < 10; i++)
		getppid();
}

static void return_from_nowhere(void *argument)
{
	uintptr_t stack = (uintptr_t)argument;

	asm volatile("mov %0, %%rsp\nmov $15, %%eax\nsyscall\nud2" ::"r"(stack) : "memory");
}

static void frames(void)
{
	unsigned survived = 0;

	place = shared_memory(4 * PAGE);
	for (uintptr_t seed = 1; seed <= 600; seed++) {
		int status = run(return_forged, (void *)seed);

		if (WIFEXITED(status) || WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGILL ||
		    WTERMSIG(status) == SIGTRAP || WTERMSIG(status) == SIGFPE || WTERMSIG(status) == SIGBUS ||
		    WTERMSIG(status) == SIGALRM)
			survived += status == 50 << 8;
		else
			wrong("a forged frame of seed %lu: status %#x", seed, status);
	}
	printf("%u of 600 forged frames were returned from\n", survived);
	Random random = random_from(11);
	for (int i = 0; i < 100; i++) {
		for (size_t byte = 0; byte < 4 * PAGE; byte++)
			((uint8_t *)place)[byte] = i % 2 ? random_next(&random) : 0;
		static const uintptr_t stacks[] = {0, 8, 0x7fffffffeff8, 0x800000000000, 0xffff800000000000, ~0ul};
		uintptr_t stack = i < 50 ? (uintptr_t)place + random_below(&random, PAGE) : stacks[i % COUNT(stacks)];
		int status = run(return_from_nowhere, (void *)stack);

		if (status == 50 << 8 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
			wrong("rt_sigreturn with the stack at %#lx: status %#x", stack, status);
	}
	munmap((void *)place, 4 * PAGE);
}

static _Atomic unsigned *steps_taken;

static void count_step(int number, siginfo_t *information, void *context)
{
	(void)number;
	(void)context;
	if (information->si_code == TRAP_TRACE)
		atomic_fetch_add(steps_taken, 1);
}

static void step(void *argument)
{
	struct sigaction action = {.sa_sigaction = count_step, .sa_flags = SA_SIGINFO};

	(void)argument;
	sigaction(SIGTRAP, &action, NULL);
	asm volatile("pushfq\norl $0x100, (%%rsp)\npopfq\n"
		     "nop\nnop\nnop\n"
		     "mov $110, %%eax\nsyscall\n"
		     "nop\nnop\n"
		     "pushfq\nandl $~0x100, (%%rsp)\npopfq" ::: "rax", "rcx", "r11", "memory", "cc");
}

static void step_into_call(void *argument)
{
	(void)argument;
	asm volatile("pushfq\norl $0x100, (%%rsp)\npopfq\n"
		     "mov $110, %%eax\nsyscall" ::: "rax", "rcx", "r11", "memory", "cc");
}

static void steps(void)
{
	steps_taken = shared_memory(PAGE);
	MUST(went_on(step, NULL));
	/* nop, nop, nop, mov, syscall (one trap after it), nop, nop, pushfq, andl, popfq */
	printf("%u steps\n", *steps_taken);
	MUST(*steps_taken >= 9 && *steps_taken <= 11);
	expect("a step", run(step_into_call, NULL), SIGTRAP, TRAP_TRACE);
	munmap(steps_taken, PAGE);
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"instructions", instructions}, {"flags", flags}, {"segments", segments},
		{"ends", ends},			{"frames", frames}, {"steps", steps},
	};

	caught = shared_memory(PAGE);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
