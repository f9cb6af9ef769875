/* Memory by 2 MiB, taken apart: written, forked, unmapped, protected, moved and given back across the borders of huge pages. What it holds
 * is the same whether the machine has any. */
#include "twin.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define HUGE (2ul << 20)
#define PAGES (4 * HUGE / PAGE)

/* 8 MiB on a border of 2 MiB. */
static unsigned char *fresh(void)
{
	unsigned char *all = mmap(NULL, 5 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *start = (unsigned char *)(((uintptr_t)all + HUGE - 1) & ~(HUGE - 1));
	if (start > all)
		munmap(all, start - all);
	if (start < all + HUGE)
		munmap(start + 4 * HUGE, all + HUGE - start);
	return start;
}

static void fill(unsigned char *pages)
{
	for (size_t page = 0; page < PAGES; page++)
		pages[page * PAGE + page % PAGE] = page % 251 + 1;
}

/* How many pages of some hold what was put there, and how many hold nothing. */
static void tell(const char *when, const unsigned char *pages, size_t first, size_t count)
{
	size_t full = 0, empty = 0;
	for (size_t page = first; page < first + count; page++) {
		full += pages[page * PAGE + page % PAGE] == page % 251 + 1;
		empty += pages[page * PAGE + page % PAGE] == 0;
	}
	printf("%s: %zu full, %zu empty\n", when, full, empty);
}

static void take_apart(void)
{
	unsigned char *pages = fresh();
	pages[PAGE] = 1;
	tell("a fresh page is empty all over", pages, 2, PAGES - 2);
	fill(pages);
	tell("filled", pages, 0, PAGES);
	TRY(munmap(pages + HUGE - PAGE, 2 * PAGE));
	tell("below a hole over a border", pages, 0, HUGE / PAGE - 1);
	tell("above it", pages, HUGE / PAGE + 1, PAGES - HUGE / PAGE - 1);
	TRY(madvise(pages + 2 * HUGE + 3 * PAGE, 5 * PAGE, MADV_DONTNEED));
	tell("with five pages given back", pages, 2 * HUGE / PAGE, PAGES / 2);
	TRY(madvise(pages + 3 * HUGE, HUGE, MADV_DONTNEED));
	tell("with two megabytes given back", pages, 3 * HUGE / PAGE, HUGE / PAGE);
	TRY(mprotect(pages + 2 * HUGE, HUGE / 2, PROT_READ));
	TRY(mprotect(pages + 2 * HUGE, HUGE / 2, PROT_NONE));
	TRY(mprotect(pages + 2 * HUGE, HUGE, PROT_READ | PROT_WRITE));
	pages[2 * HUGE + PAGE - 1] = 7;
	tell("with rights lost and had again", pages, 2 * HUGE / PAGE, HUGE / PAGE);
	TRY(munmap(pages, 4 * HUGE));
}

static void protect_whole(void)
{
	unsigned char *pages = fresh();
	fill(pages);
	TRY(mprotect(pages, 4 * HUGE, PROT_READ));
	tell("read only", pages, 0, PAGES);
	fflush(stdout);
	if (fork() == 0) {
		pages[HUGE] = 1;
		_exit(0);
	}
	int status = 0;
	wait(&status);
	printf("who writes there ends by signal %d\n", WTERMSIG(status));
	TRY(mprotect(pages, 4 * HUGE, PROT_NONE));
	TRY(mprotect(pages, 4 * HUGE, PROT_READ | PROT_WRITE));
	fill(pages);
	tell("writable again", pages, 0, PAGES);
	munmap(pages, 4 * HUGE);
}

static void move(void)
{
	unsigned char *pages = fresh(), *target = fresh();
	fill(pages);
	fill(target);
	unsigned char *moved = mremap(pages + HUGE, 2 * HUGE, 2 * HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + HUGE);
	printf("moved on a border: %d\n", moved == target + HUGE);
	tell("around it", target, 0, PAGES);
	moved = mremap(pages + HUGE / 2, HUGE / 2, HUGE / 2, MREMAP_MAYMOVE | MREMAP_FIXED, target + HUGE / 2);
	printf("moved half of one: %d\n", moved == target + HUGE / 2);
	tell("around it", target, 0, PAGES);
	munmap(pages, 4 * HUGE);
	munmap(target, 4 * HUGE);
}

static void share(void)
{
	unsigned char *pages = fresh();
	fill(pages);
	fflush(stdout);
	if (fork() == 0) {
		tell("the child's", pages, 0, PAGES);
		memset(pages + HUGE - PAGE, 0, 2 * PAGE);
		tell("the child's, changed", pages, 0, PAGES);
		munmap(pages + 2 * HUGE, HUGE);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	tell("the parent's", pages, 0, PAGES);
	memset(pages, 0, PAGE);
	tell("the parent's, changed", pages, 0, PAGES);
	int ends[2];
	TRY(pipe(ends));
	TRY(write(ends[1], pages + 3 * HUGE - 100, 200));
	TRY(read(ends[0], pages + HUGE - 100, 200));
	printf("copied over borders: %d\n", memcmp(pages + HUGE - 100, pages + 3 * HUGE - 100, 200));
	munmap(pages, 4 * HUGE);
}

static void forbid(void)
{
	unsigned char *pages = fresh(), resident[8];
	TRY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	TRY(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0));
	TRY(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0));
	TRY(madvise(pages, HUGE, MADV_NOHUGEPAGE));
	TRY(madvise(pages + 2 * HUGE, HUGE, MADV_HUGEPAGE));
	TRY(madvise(pages + 1, HUGE, MADV_HUGEPAGE));
	pages[0] = pages[3 * PAGE] = 1;
	TRY(mincore(pages, 8 * PAGE, resident));
	printf("where it was not wished: %d%d%d%d\n", resident[0] & 1, resident[1] & 1, resident[2] & 1, resident[3] & 1);
	TRY(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	TRY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	fflush(stdout);
	if (fork() == 0) {
		TRY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	pages[HUGE] = pages[HUGE + 3 * PAGE] = 1;
	TRY(mincore(pages + HUGE, 8 * PAGE, resident));
	printf("where the program does not want it: %d%d%d%d\n", resident[0] & 1, resident[1] & 1, resident[2] & 1, resident[3] & 1);
	TRY(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
	TRY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	munmap(pages, 4 * HUGE);
}

static unsigned char *common;
static pthread_barrier_t barrier;
static int lost[4];

/* Each thread has pages of its own of the same 2 MiB, and all take them apart at once. */
static void *worker(void *argument)
{
	size_t number = (size_t)argument;
	for (int round = 0; round < 4; round++) {
		pthread_barrier_wait(&barrier);
		for (size_t page = number; page < HUGE / PAGE; page += 4)
			common[page * PAGE] = page % 251 + 1;
		if (round % 4 == (int)number)
			mprotect(common + number * PAGE, PAGE, PROT_READ), mprotect(common + number * PAGE, PAGE, PROT_READ | PROT_WRITE);
		for (size_t page = number; page < HUGE / PAGE; page += 4)
			lost[number] += common[page * PAGE] != page % 251 + 1;
		pthread_barrier_wait(&barrier);
		if (round % 4 == (int)number)
			madvise(common, HUGE, MADV_DONTNEED);
		pthread_barrier_wait(&barrier);
		for (size_t page = number; page < HUGE / PAGE; page += 16)
			lost[number] += common[page * PAGE + 8] != 0;
	}
	return NULL;
}

static void at_once(void)
{
	pthread_t threads[4];
	common = fresh();
	pthread_barrier_init(&barrier, NULL, 4);
	for (size_t thread = 0; thread < 4; thread++)
		pthread_create(&threads[thread], NULL, worker, (void *)thread);
	for (size_t thread = 0; thread < 4; thread++)
		pthread_join(threads[thread], NULL);
	printf("lost by threads: %d %d %d %d\n", lost[0], lost[1], lost[2], lost[3]);
	munmap(common, 4 * HUGE);
}

int main(void)
{
	take_apart();
	protect_whole();
	move();
	share();
	forbid();
	at_once();
	return 0;
}
