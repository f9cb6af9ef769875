/*
 * Attacks on the wall around a guest of the host machine, by programs that know how it is built: that their registers lie in blocks which they
 * can write, and that they say by a word there that they have stopped. On other machines, and with the engine that traces, there are no such blocks:
 * the attackers die of it, which is fine.
 *
 * usage: wall [PART]
 * PART: runs_on (writes what it lost after it said it had stopped), forks (keeps its child's pages writable), poison (makes the host reset its
 * stub's handlers), siblings (write the blocks of threads that are being made), or all.
 */
#include "hostile.h"
#include <sched.h>

#define CODE 0x7fffff000000ul
#define BLOCKS 0x7fffff100000ul
#define BLOCK_SIZE (32ul << 10)

typedef volatile unsigned char *Block;

/* What the attackers did, for all to see. */
typedef struct {
	volatile unsigned long word, claimed, seen, later, done;
} Shared;

static Shared *shared;
static unsigned char stack[65536] __attribute__((aligned(16)));

static Block block(int cpu)
{
	return (Block)(BLOCKS + cpu * BLOCK_SIZE);
}

static volatile uint64_t *word64(Block block, unsigned long offset)
{
	return (volatile uint64_t *)(block + offset);
}

/* The first call of its own choice in the stub's code: `syscall; int3`, on a boundary of 16 bytes. */
static uint64_t gadget(void)
{
	const unsigned char *code = (const unsigned char *)CODE;

	for (int i = 0; i < 2000; i += 16)
		if (code[i] == 0x0f && code[i + 1] == 0x05 && code[i + 2] == 0xcc)
			return CODE + i;
	return 0;
}

/* Writes a system call into a block that never was. Nothing is said of it yet. */
static void forge(Block b, uint64_t number, uint64_t first, uint64_t second, uint64_t third, uint64_t rip, uint64_t rsp)
{
	uint64_t base = (uint64_t)b, fs;
	volatile uint64_t *registers = word64(b, 0x1400 + 40);

	asm volatile("rdfsbase %0" : "=r"(fs));
	memset((void *)(base + 0x1000), 0, 0x800);
	*word64(b, 0x1008) = 1;
	*word64(b, 0x1018) = 0xc000003eul << 32;
	registers[13] = number;
	registers[8] = first;
	registers[9] = second;
	registers[12] = third;
	registers[15] = rsp;
	registers[16] = rip;
	registers[17] = 0x202;
	registers[18] = 0x002b000000000033ul;
	*word64(b, 0x1400 + 224) = base + 0x2000;
	*word64(b, 16) = SIGSYS;
	*word64(b, 24) = base + 0x1000;
	*word64(b, 32) = base + 0x1400;
	*word64(b, 40) = fs;
	*word64(b, 48) = 0;
}

/* "It has trapped." */
static inline __attribute__((always_inline)) void claim(Block b)
{
	asm volatile("movl $1, %%eax\n xchgl %%eax, (%0)" : : "r"(b) : "rax", "memory");
}

/* Goes on at `function` with all signals blocked, by the stub's own return from a signal. */
static _Noreturn void block_signals(void (*function)(void))
{
	static uint64_t frame[128] __attribute__((aligned(64)));

	frame[5 + 15] = (uint64_t)stack + 60000;
	frame[5 + 16] = (uint64_t)function;
	frame[5 + 17] = 0x202;
	frame[5 + 18] = 0x002b000000000033ul;
	frame[296 / 8] = ~0ul;
	asm volatile("mov %0, %%rsp\n mov $15, %%eax\n jmp *%1" : : "r"(frame), "r"(gadget()) : "rax");
	__builtin_unreachable();
}

static int my_cpu;
static volatile unsigned long *target;

/* Says that it made the call that was forged, then that it waits, and goes on writing meanwhile. All signals are blocked. */
static _Noreturn void write_on(void)
{
	Block b = block(my_cpu);

	claim(b);
	while (*(volatile uint32_t *)b)
		asm volatile("pause");
	forge(b, SYS_pause, 0, 0, 0, (uint64_t)write_on, (uint64_t)stack + 65000);
	claim(b);
	shared->claimed++;
	for (;;)
		++*target;
}

/* Waits until the attacker has done what it can, or has ended; it is not collected. */
static void until(volatile unsigned long *done, pid_t attacker)
{
	siginfo_t ended = {0};

	for (int i = 0; i < 2000 && !*done && ended.si_pid == 0; i++) {
		sleep_ms(2);
		waitid(P_PID, attacker, &ended, WEXITED | WNOHANG | WNOWAIT);
	}
}

/* A process that said it called mprotect loses its page, which somebody else gets. */
static void runs_on(void)
{
	enum { BYTES = 4 << 20 };
	unsigned reached = 0;

	for (int round = 0; round < 10; round++) {
		int file = open("/tmp/wall", O_RDWR | O_CREAT | O_CLOEXEC, 0600), status = 0;
		memset((void *)shared, 0, sizeof *shared);
		MUST(ftruncate(file, PAGE) == 0);
		target = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		*target = 1;
		pid_t child = fork();
		if (child == 0) {
			my_cpu = sched_getcpu();
			*target = 2;
			shared->word = 1;
			memset(stack, 1, sizeof stack);
			forge(block(my_cpu), SYS_mprotect, (uint64_t)target, PAGE, PROT_NONE, (uint64_t)write_on,
			      (uint64_t)stack + 65000);
			block_signals(write_on);
		}
		until(&shared->claimed, child);
		reached += shared->claimed;
		munmap((void *)target, PAGE);
		MUST(ftruncate(file, 0) == 0);
		close(file);
		volatile unsigned long *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int look = 0; look < 3; look++, sleep_ms(5))
			for (size_t i = 0; i < BYTES / sizeof *memory; i += PAGE / sizeof *memory) {
				if (memory[i])
					wrong("a fresh page holds %lu", memory[i]);
				memory[i] = 0;
			}
		munmap((void *)memory, BYTES);
		kill(child, SIGKILL);
		MUST(waitpid(child, &status, 0) == child);
	}
	printf("in %u of 10 rounds it ran on after it said it waits\n", reached);
	unlink("/tmp/wall");
}

static _Noreturn void child_looks(void)
{
	shared->seen = *target;
	for (volatile long i = 0; i < 20000000; i++)
		;
	shared->later = *target;
	shared->done = 1;
	for (;;)
		asm volatile("syscall" : : "a"(SYS_pause) : "rcx", "r11", "memory");
}

/* A process that said it called fork writes on, while its child looks at what is its own. */
static void forks(void)
{
	unsigned reached = 0;

	for (int round = 0; round < 5; round++) {
		static unsigned char its_stack[65536] __attribute__((aligned(16)));
		int status = 0;
		memset((void *)shared, 0, sizeof *shared);
		target = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pid_t child = fork();
		if (child == 0) {
			setpgid(0, 0);
			my_cpu = sched_getcpu();
			memset(stack, 1, sizeof stack);
			memset(its_stack, 1, sizeof its_stack);
			*target = 2;
			shared->word = 1;
			forge(block(my_cpu), SYS_fork, 0, 0, 0, (uint64_t)child_looks, (uint64_t)its_stack + 65000);
			block_signals(write_on);
		}
		until(&shared->done, child);
		for (int i = 0; i < 500 && shared->seen && !shared->done; i++)
			sleep_ms(2);
		reached += shared->done;
		if (shared->done && shared->seen != shared->later)
			wrong("a child's page went from %lu to %lu", shared->seen, shared->later);
		kill(-child, SIGKILL);
		kill(child, SIGKILL);
		MUST(waitpid(child, &status, 0) == child);
		munmap((void *)target, PAGE);
	}
	printf("in %u of 5 rounds a child looked\n", reached);
}

static _Noreturn void die_of_a_call(void)
{
	claim(block(my_cpu));
	asm volatile("syscall\n ud2" : : "a"(SYS_getpid) : "rcx", "r11", "memory");
	__builtin_unreachable();
}

/* A process makes the host reset what its stub does about signals, and says it has ended. Who gets the stub next must not notice. */
static void poison(void)
{
	for (int round = 0; round < 6; round++) {
		pid_t innocent[4], attacker = fork();
		int status;

		if (attacker == 0) {
			my_cpu = sched_getcpu();
			forge(block(my_cpu), SYS_exit_group, 0, 0, 0, (uint64_t)die_of_a_call, (uint64_t)stack + 65000);
			block_signals(die_of_a_call);
		}
		MUST(waitpid(attacker, &status, 0) == attacker);
		for (unsigned i = 0; i < COUNT(innocent); i++) {
			innocent[i] = fork();
			if (innocent[i] == 0) {
				for (int k = 0; k < 20; k++)
					getppid();
				sleep_ms(5);
				_exit(0);
			}
		}
		for (unsigned i = 0; i < COUNT(innocent); i++)
			if (waitpid(innocent[i], &status, 0) == innocent[i] && status)
				wrong("an innocent process died with status %#x", status);
	}
}

static void *scribble(void *argument)
{
	static unsigned char fake[BLOCK_SIZE] __attribute__((aligned(32768)));
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), mine = sched_getcpu();

	(void)argument;
	memset(fake, 1, sizeof fake);
	memset(fake, 0, sizeof fake);
	for (;; shared->word++)
		for (int cpu = 0; cpu < cpus; cpu++)
			if (cpu != mine) {
				*(volatile uint32_t *)block(cpu) = shared->word & 1;
				*word64(block(cpu), 56) = (uint64_t)fake + 4096;
			}
	return NULL;
}

static void *spin(void *argument)
{
	(void)argument;
	for (volatile unsigned long i = 0;; i++)
		;
	return NULL;
}

/* A thread writes the blocks of its siblings while they are made: nobody else may have to wait for them. */
static void siblings(void)
{
	for (int round = 0; round < 3; round++) {
		int status;
		memset((void *)shared, 0, sizeof *shared);
		pid_t child = fork();

		if (child == 0) {
			pthread_t thread;
			pthread_create(&thread, NULL, scribble, NULL);
			for (int i = 0; i < 3; i++)
				pthread_create(&thread, NULL, spin, NULL);
			for (int i = 0; i < 50; i++) {
				void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
				*(volatile char *)page = 1;
				munmap(page, PAGE);
				sleep_ms(10);
			}
			_exit(0);
		}
		for (int i = 0; i < 50; i++) {
			void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			*(volatile char *)page = 1;
			munmap(page, PAGE);
			sleep_ms(10);
		}
		kill(child, SIGKILL);
		MUST(waitpid(child, &status, 0) == child);
		printf("%lu times all blocks were written\n", shared->word);
	}
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"runs_on", runs_on, 0},
		{"forks", forks, 0},
		{"poison", poison, 0},
		{"siblings", siblings, 0},
	};

	shared = shared_memory(PAGE);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
