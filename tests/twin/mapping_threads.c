/*
 * Threads that map pages, hand them to each other, and take them away again: whoever is given a page sees what is in it, never what
 * was at its address before; and a fresh page is one of zeros.
 */
#include "twin.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { PAIRS = 2, TURNS = 20, PAGES = 3 };

/* What one thread of a pair gives the other. */
static struct handover {
	_Atomic(char *) given;
	atomic_int seen;
} handovers[PAIRS];

static atomic_int stale, lost, dirty;

static char *map_fresh(void)
{
	char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		abort();
	for (int page = 0; page < PAGES; page++)
		dirty += pages[page * PAGE] != 0;
	return pages;
}

static void *give(void *number)
{
	struct handover *handover = &handovers[(long)number];

	for (int turn = 1; turn <= TURNS; turn++) {
		char *pages = map_fresh();

		for (int page = 0; page < PAGES; page++)
			memcpy(pages + page * PAGE, &turn, sizeof turn);
		handover->given = pages;
		while (handover->seen != turn)
			sched_yield();
		for (int page = 0; page < PAGES; page++)
			lost += pages[page * PAGE + 8] != 1;
		/* Some go at once, some lose their pages first, some their rights. */
		if (turn % 3 == 1)
			madvise(pages, PAGES * PAGE, MADV_DONTNEED);
		if (turn % 3 == 2)
			mprotect(pages, PAGES * PAGE, PROT_READ);
		if (turn % 3 == 1)
			dirty += pages[0] != 0;
		munmap(pages, PAGES * PAGE);
	}
	return NULL;
}

static void *take(void *number)
{
	struct handover *handover = &handovers[(long)number];

	for (int turn = 1; turn <= TURNS; turn++) {
		char *pages, *own = map_fresh();

		memset(own, 0x55, PAGES * PAGE);
		while (!(pages = atomic_exchange(&handover->given, NULL)))
			sched_yield();
		for (int page = 0; page < PAGES; page++) {
			stale += memcmp(pages + page * PAGE, &turn, sizeof turn) != 0;
			pages[page * PAGE + 8] = 1;
		}
		/* Its address is free for what the others map next, while the first one still looks. */
		munmap(own, PAGES * PAGE);
		handover->seen = turn;
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[2 * PAIRS];

	for (long pair = 0; pair < PAIRS; pair++) {
		pthread_create(&threads[2 * pair], NULL, give, (void *)pair);
		pthread_create(&threads[2 * pair + 1], NULL, take, (void *)pair);
	}
	for (int thread = 0; thread < 2 * PAIRS; thread++)
		pthread_join(threads[thread], NULL);
	printf("stale %d, lost %d, dirty %d\n", stale, lost, dirty);
	return 0;
}
