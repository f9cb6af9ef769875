/*
 * A page of code is taken away and given back while threads wait to run it. Its one instruction writes elsewhere, so that whoever
 * mistakes the fetch for a write finds none allowed: nobody may get a signal.
 */
#include "twin.h"
#include <pthread.h>
#include <sched.h>

enum { THREADS = 2, ROUNDS = 100 };

static void (*volatile code)(long *);
static _Atomic int current;
static _Atomic int done[THREADS];

static void *run(void *argument)
{
	long index = (long)argument, count = 0;

	for (int last = 0; last < ROUNDS;) {
		while (current == last)
			sched_yield();
		last = current;
		code(&count);
		done[index] = last;
	}
	return (void *)count;
}

static void complain(int number)
{
	printf("signal %s in round %d\n", signal_name(number), current);
	_exit(1);
}

int main(void)
{
	/* incq (%rdi); ret */
	static const unsigned char instructions[] = {0x48, 0xff, 0x07, 0xc3};
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t threads[THREADS];

	signal(SIGSEGV, complain);
	memcpy(page, instructions, sizeof instructions);
	code = (void (*)(long *))page;
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, run, (void *)i);
	for (int round = 1; round <= ROUNDS; round++) {
		mprotect(page, PAGE, PROT_NONE);
		mprotect(page, PAGE, PROT_READ | PROT_EXEC);
		current = round;
		for (int i = 0; i < THREADS; i++)
			while (done[i] != round)
				sched_yield();
	}
	for (int i = 0; i < THREADS; i++) {
		void *count = NULL;

		pthread_join(threads[i], &count);
		printf("%ld times\n", (long)count);
	}
	return 0;
}
