/*
 * Memory that changes while others use it: threads on several processors, copy-on-write, the kernel's own copies.
 *
 * usage: spaces [PART [SECONDS]]
 * PART: protect, unmap, remap (no processor sees what was taken away), copies (threads write while the process forks),
 * calls (the kernel reads and writes memory that is being unmapped), faults (many threads fault at one page), grow
 * (stacks), holes, breaks, extremes, or all. SECONDS (2) each.
 */
#include "hostile.h"
#include <sched.h>
#include <setjmp.h>
#include <sys/uio.h>

static double seconds = 2;
static uint64_t deadline;

static int is_over(void)
{
	return now_ns() > deadline;
}

static void *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		wrong("mmap: %s", strerrorname_np(errno));
		_exit(1);
	}
	return memory;
}

static __thread sigjmp_buf back;
static __thread volatile int guarded;
static __thread void *fault_address;

static void on_fault(int number, siginfo_t *information, void *context)
{
	(void)context;
	if (!guarded) {
		signal(number, SIG_DFL);
		return;
	}
	fault_address = information->si_addr;
	siglongjmp(back, number);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* Does an access; gives 0 or the signal it caused. */
#define ATTEMPT(...)                                                                                                   \
	({                                                                                                             \
		int signal_ = sigsetjmp(back, 0);                                                                      \
		if (signal_ == 0) {                                                                                    \
			guarded = 1;                                                                                   \
			__VA_ARGS__;                                                                                   \
		}                                                                                                      \
		guarded = 0;                                                                                           \
		signal_;                                                                                               \
	})

/*
 * Workers write a counter into the page while the main thread takes the right to write away. After mprotect has
 * returned, no write may come through on any processor.
 */
static volatile uint64_t *page;
static _Atomic int stop_workers;
static _Atomic unsigned long writes;

static void *write_always(void *argument)
{
	uintptr_t index = (uintptr_t)argument;

	while (!stop_workers) {
		if (ATTEMPT(page[index * 8]++) == 0)
			atomic_fetch_add(&writes, 1);
		else if ((void *)&page[index * 8] != fault_address)
			wrong("a fault at %p was reported at %p", &page[index * 8], fault_address);
	}
	return NULL;
}

enum { WORKERS = 4 };

static void with_workers(void *(*work)(void *), void (*round)(Random *))
{
	pthread_t all[WORKERS];
	Random random = random_from(7);
	int rounds = 0;

	catch_faults();
	stop_workers = 0;
	writes = 0;
	deadline = now_ns() + (uint64_t)(seconds * 1e9);
	for (uintptr_t i = 0; i < WORKERS; i++)
		pthread_create(&all[i], NULL, work, (void *)i);
	/* On a busy host the time may be over before it begins. */
	do {
		round(&random);
		rounds++;
	} while (!is_over() || writes == 0);
	stop_workers = 1;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(all[i], NULL);
	printf("%d rounds, %lu writes\n", rounds, (unsigned long)writes);
}

static void protect_round(Random *random)
{
	uint64_t seen[WORKERS];

	MUST(mprotect((void *)page, PAGE, PROT_READ) == 0);
	for (int i = 0; i < WORKERS; i++)
		seen[i] = page[i * 8];
	for (uint64_t i = random_below(random, 3000); i > 0; i--)
		asm volatile("pause");
	for (int i = 0; i < WORKERS; i++)
		if (page[i * 8] != seen[i])
			wrong("a processor wrote to a read-only page");
	MUST(mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE) == 0);
	usleep(random_below(random, 200));
}

static void protect(void)
{
	page = map(PAGE);
	with_workers(write_always, protect_round);
	munmap((void *)page, PAGE);
}

/* The page is unmapped; a new one at the same place must be empty but for what was written to it. */
static void unmap_round(Random *random)
{
	static uint64_t number;

	if (random_below(random, 2))
		MUST(munmap((void *)page, PAGE) == 0);
	else
		MUST(madvise((void *)page, PAGE, MADV_DONTNEED) == 0);
	/* Take up the frame that was freed, and see whether somebody still writes there. */
	volatile uint64_t *other = mmap((char *)page + 16 * PAGE, PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	number++;
	for (int i = 0; i < 512; i++)
		other[i] = number;
	for (uint64_t i = random_below(random, 3000); i > 0; i--)
		asm volatile("pause");
	for (int i = 0; i < 512; i++)
		if (other[i] != number)
			wrong("a processor wrote to a page that was unmapped");
	MUST(mmap((void *)page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
	MUST(munmap((void *)other, PAGE) == 0);
	usleep(random_below(random, 200));
}

static void unmap(void)
{
	page = map(32 * PAGE);
	with_workers(write_always, unmap_round);
	munmap((void *)page, 32 * PAGE);
}

/* The page moves away; nobody writes to it at the old place any more. */
static void remap_round(Random *random)
{
	volatile uint64_t *moved = mremap((void *)page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)page + 16 * PAGE);
	uint64_t seen[WORKERS];

	if (!MUST(moved == page + 16 * PAGE / 8))
		return;
	for (int i = 0; i < WORKERS; i++)
		seen[i] = moved[i * 8];
	for (uint64_t i = random_below(random, 3000); i > 0; i--)
		asm volatile("pause");
	for (int i = 0; i < WORKERS; i++)
		if (moved[i * 8] != seen[i])
			wrong("a processor wrote to a page that has moved");
	MUST(mremap((void *)moved, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)page) == (void *)page);
	usleep(random_below(random, 200));
}

static void remap(void)
{
	page = map(32 * PAGE);
	munmap((char *)page + PAGE, 31 * PAGE);
	with_workers(write_always, remap_round);
	munmap((void *)page, PAGE);
}

/*
 * Each worker counts up two words in two pages, the first always first. A child sees memory as it was at one moment: the
 * second word is never ahead of the first. In the parent no count is lost.
 */
static volatile uint64_t *first_words, *second_words;
static uint64_t counted[WORKERS];

static void *count_twice(void *argument)
{
	uintptr_t index = (uintptr_t)argument;
	uint64_t own = 0;

	while (!stop_workers) {
		own++;
		first_words[index * 512] = own;
		asm volatile("" ::: "memory");
		second_words[index * 512] = own;
		if (first_words[index * 512] != own)
			wrong("a write was lost: %lu, not %lu", first_words[index * 512], own);
		atomic_fetch_add(&writes, 1);
	}
	counted[index] = own;
	return NULL;
}

static void copy_round(Random *random)
{
	pid_t child = fork();

	if (child == 0) {
		for (int i = 0; i < WORKERS; i++) {
			uint64_t one = first_words[i * 512], other = second_words[i * 512];

			if (other > one || one > other + 1)
				wrong("a child sees %lu before %lu", other, one);
			first_words[i * 512] = 0;
			second_words[i * 512] = 0;
		}
		usleep(random_below(random, 300));
		for (int i = 0; i < WORKERS; i++)
			if (first_words[i * 512] || second_words[i * 512])
				wrong("somebody writes to a child's memory");
		_exit(0);
	}
	int status = 0;
	if (random_below(random, 2))
		usleep(random_below(random, 300));
	MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void copies(void)
{
	first_words = map(WORKERS * PAGE);
	second_words = map(WORKERS * PAGE);
	with_workers(count_twice, copy_round);
	for (int i = 0; i < WORKERS; i++)
		MUST(first_words[i * 512] == counted[i] && second_words[i * 512] == counted[i]);
	munmap((void *)first_words, WORKERS * PAGE);
	munmap((void *)second_words, WORKERS * PAGE);
}

/* The kernel's copies meet memory that comes and goes: EFAULT, a short count, or success; and what was copied is right. */
static char *shifting;
enum { SHIFTING = 64 };

static void *copy_always(void *argument)
{
	int ends[2], zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	char folder[] = "/tmp/spaces-XXXXXX";
	int file = mkstemp(folder);

	(void)argument;
	unlink(folder);
	if (pipe(ends) || fcntl(ends[1], F_SETFL, O_NONBLOCK) || fcntl(ends[0], F_SETFL, O_NONBLOCK))
		wrong("pipe: %s", strerrorname_np(errno));
	while (!stop_workers) {
		size_t size = SHIFTING * PAGE;
		ssize_t results[8] = {0};
		struct iovec parts[3] = {{shifting, PAGE + 1}, {shifting + 20 * PAGE, 3 * PAGE}, {shifting + 7, size - 7}};

		results[0] = read(zero, shifting, size);
		results[1] = write(null, shifting, size);
		results[2] = write(ends[1], shifting + 5, size - 5);
		results[3] = read(ends[0], shifting + 9, size - 9);
		results[4] = pwrite(file, shifting, size, 100);
		results[5] = pread(file, shifting, size, 50);
		results[6] = readv(zero, parts, 3);
		results[7] = pwritev(file, parts, 3, 0);
		for (size_t i = 0; i < COUNT(results); i++)
			if (results[i] < 0 && errno != EFAULT && errno != EAGAIN)
				wrong("call %zu: %s", i, strerrorname_np(errno));
		/* The bare calls: the C library looks at what they wrote. */
		syscall(SYS_stat, "/proc", shifting + 3 * PAGE - 10);
		syscall(SYS_getcwd, shifting + 10 * PAGE - 1, 100);
		syscall(SYS_open, shifting + 30 * PAGE - 2, O_RDONLY);
		atomic_fetch_add(&writes, 1);
	}
	close(ends[0]);
	close(ends[1]);
	close(zero);
	close(null);
	close(file);
	return NULL;
}

static void shift_round(Random *random)
{
	char *at = shifting + random_below(random, SHIFTING) * PAGE;
	size_t size = (1 + random_below(random, 8)) * PAGE;

	if (at + size > shifting + SHIFTING * PAGE)
		return;
	switch (random_below(random, 5)) {
	case 0:
		MUST(munmap(at, size) == 0);
		break;
	case 1:
		mprotect(at, size, PROT_READ);
		break;
	case 2:
		mprotect(at, size, PROT_NONE);
		break;
	case 3:
		madvise(at, size, MADV_DONTNEED);
		break;
	default:
		MUST(mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
	}
	if (random_below(random, 50) == 0) {
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		MUST(child > 0 && waitpid(child, NULL, 0) == child);
	}
}

static void calls(void)
{
	shifting = map(SHIFTING * PAGE);
	with_workers(copy_always, shift_round);
	munmap(shifting, SHIFTING * PAGE);
}

/* All threads touch the same new page at once: there is only one. */
static _Atomic uint64_t *meeting;
static pthread_barrier_t barrier;

static void *touch_together(void *argument)
{
	(void)argument;
	for (;;) {
		pthread_barrier_wait(&barrier);
		if (stop_workers)
			return NULL;
		atomic_fetch_add(meeting, 1);
		pthread_barrier_wait(&barrier);
	}
}

static void faults(void)
{
	pthread_t all[WORKERS];
	unsigned rounds = 0;

	meeting = map(PAGE);
	stop_workers = 0;
	deadline = now_ns() + (uint64_t)(seconds * 1e9);
	pthread_barrier_init(&barrier, NULL, WORKERS + 1);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&all[i], NULL, touch_together, NULL);
	for (; !is_over(); rounds++) {
		/* Half of the time what is touched is the page of zeros, mapped by reading. */
		uint64_t zero = rounds % 2 ? *(volatile uint64_t *)meeting : 0;

		MUST(zero == 0);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		if (*meeting != WORKERS)
			wrong("%d threads touched a page, %lu are seen", WORKERS, (unsigned long)*meeting);
		MUST(madvise((void *)meeting, PAGE, MADV_DONTNEED) == 0);
	}
	stop_workers = 1;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(all[i], NULL);
	munmap((void *)meeting, PAGE);
	printf("%u rounds\n", rounds);
}

static int descend(int depth)
{
	volatile char frame[4096];

	frame[0] = depth;
	return depth == 0 ? frame[0] : descend(depth - 1) + frame[0];
}

static void *descend_in_thread(void *argument)
{
	(void)argument;
	descend(1500);
	return NULL;
}

/* Stacks grow as far as they may, and no farther. */
static void grow(void)
{
	Memory before = memory_now();

	for (int round = 0; round < 10; round++) {
		pid_t child = fork();

		if (child == 0) {
			struct rlimit limit = {4 << 20, 4 << 20};
			pthread_t thread;

			signal(SIGSEGV, SIG_DFL);
			descend(1500);
			pthread_create(&thread, NULL, descend_in_thread, NULL);
			pthread_join(thread, NULL);
			setrlimit(RLIMIT_STACK, &limit);
			_exit(descend(4000) == 12345);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
	memory_is_back("grow", before, 256);
}

/* A region is cut in thousands of pieces and put together again. */
static void holes(void)
{
	enum { PAGES = 4000 };
	Memory before = memory_now();

	for (int round = 0; round < 3; round++) {
		char *memory = map(PAGES * PAGE);

		for (int i = 0; i < PAGES; i += 2)
			memory[i * PAGE] = i;
		for (int i = 1; i < PAGES; i += 2)
			MUST((round == 0 ? munmap(memory + i * PAGE, PAGE)
					 : mprotect(memory + i * PAGE, PAGE, round == 1 ? PROT_NONE : PROT_READ)) == 0);
		for (int i = 0; i < PAGES; i += 2)
			MUST(memory[i * PAGE] == (char)i);
		pid_t child = fork();
		if (child == 0)
			_exit(memory[2 * PAGE] != 2);
		int status = 0;
		MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
		MUST(munmap(memory, PAGES * PAGE) == 0);
	}
	memory_is_back("holes", before, 512);
}

/* brk at its limits. */
static void breaks(void)
{
	char *start = sbrk(0);
	Memory before = memory_now();

	for (int round = 0; round < 50; round++) {
		MUST(sbrk(400 * PAGE) == start);
		memset(start, round, 400 * PAGE);
		MUST(start[399 * PAGE] == (char)round);
		MUST(brk(start) == 0);
	}
	FAILS(brk((char *)0x7fffffffffff), ENOMEM);
	FAILS(brk((char *)-1), ENOMEM);
	MUST((char *)syscall(SYS_brk, 0) == start);
	MUST((char *)syscall(SYS_brk, start - (1l << 40)) == start);
	memory_is_back("breaks", before, 128);
}

/* What can't be. */
static void extremes(void)
{
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

	FAILS(mmap(NULL, 0, PROT_READ, anonymous, -1, 0), EINVAL);
	FAILS(mmap(NULL, -1, PROT_READ, anonymous, -1, 0), ENOMEM);
	FAILS(mmap(NULL, -PAGE, PROT_READ, anonymous, -1, 0), ENOMEM);
	FAILS(mmap(NULL, 1ul << 47, PROT_READ, anonymous | MAP_NORESERVE, -1, 0), ENOMEM);
	FAILS(mmap((void *)1, PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0), EINVAL);
	FAILS(mmap((void *)0x7ffffffff000, PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0), ENOMEM);
	FAILS(mmap((void *)0x7fffffffe000, 2 * PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0), ENOMEM);
	FAILS(mmap((void *)0xffff800000000000, PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0), ENOMEM);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 0x7fffffff, 0), EBADF);
	FAILS(munmap((void *)1, PAGE), EINVAL);
	FAILS(munmap(NULL, 0), EINVAL);
	FAILS(munmap(NULL, -1), EINVAL);
	FAILS(munmap((void *)0xffff800000000000, PAGE), EINVAL);
	FAILS(munmap((void *)0x7ffffffff000, PAGE), EINVAL);
	FAILS(mprotect((void *)1, PAGE, PROT_READ), EINVAL);
	FAILS(mprotect((void *)0x10000, PAGE, PROT_READ), ENOMEM);
	FAILS(mprotect((void *)0xfffffffffffff000, PAGE, PROT_READ), ENOMEM);
	FAILS(mprotect((void *)0x10000, -PAGE, PROT_READ), ENOMEM);
	FAILS(mprotect((void *)0x10000, -1, PROT_READ), ENOMEM);
	FAILS(mremap((void *)0x10000, PAGE, 2 * PAGE, 0), EFAULT);
	FAILS(mremap((void *)0x10000, PAGE, 0, 0), EINVAL);
	FAILS(madvise((void *)0x10000, PAGE, 12345), EINVAL);
	FAILS(msync((void *)0x10000, PAGE, MS_SYNC), ENOMEM);
	/* The last page there is, and as much as there may be. */
	char *last = (char *)0x7fffffffe000;
	if (mmap(last, PAGE, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED_NOREPLACE, -1, 0) == last) {
		last[PAGE - 1] = 1;
		FAILS(write(open("/dev/zero", O_WRONLY), last + PAGE - 1, 2), EFAULT);
		MUST(munmap(last, PAGE) == 0);
	}
	char *huge = mmap(NULL, 1ul << 46, PROT_READ | PROT_WRITE, anonymous | MAP_NORESERVE, -1, 0);
	MUST(huge != MAP_FAILED);
	if (huge != MAP_FAILED) {
		for (size_t i = 0; i < 1ul << 46; i += 1ul << 37)
			huge[i] = huge[i + (1ul << 36)] + 1;
		MUST(munmap(huge, 1ul << 46) == 0);
	}
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"protect", protect}, {"unmap", unmap}, {"remap", remap}, {"copies", copies}, {"calls", calls},
		{"faults", faults},   {"grow", grow},	{"holes", holes}, {"breaks", breaks}, {"extremes", extremes},
	};

	if (argc > 2)
		seconds = atof(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
