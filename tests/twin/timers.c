/* alarm(2), setitimer(2), and when their signals come. */
#include "twin.h"

static volatile int rings;

static void ring(int number)
{
	(void)number;
	rings++;
}

static long elapsed_ms(struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

int main(void)
{
	struct timespec start;
	struct itimerval timer = {{0, 20000}, {0, 50000}}, old;

	signal(SIGALRM, ring);
	TRY(alarm(0));
	TRY(alarm(100));
	TRY(alarm(50));
	TRY(alarm(0));
	TRY(alarm(0));
	TRY(getitimer(ITIMER_REAL, &old));
	IS(old.it_value.tv_sec == 0 && old.it_value.tv_usec == 0);

	clock_gettime(CLOCK_MONOTONIC, &start);
	TRY(setitimer(ITIMER_REAL, &timer, &old));
	while (rings < 5)
		pause();
	IS(elapsed_ms(&start) >= 130);
	TRY(getitimer(ITIMER_REAL, &old));
	printf("interval %ld us\n", (long)old.it_interval.tv_usec);
	memset(&timer, 0, sizeof timer);
	TRY(setitimer(ITIMER_REAL, &timer, NULL));
	rings = 0;
	sleep_ms(50);
	printf("rings after the end %d\n", rings);

	TRY(setitimer(9, &timer, NULL));
	timer.it_value.tv_usec = 1000000;
	TRY(setitimer(ITIMER_REAL, &timer, NULL));
	timer.it_value.tv_usec = -1;
	TRY(setitimer(ITIMER_REAL, &timer, NULL));
	TRY(getitimer(9, &old));

	/* Processor time: a busy loop rings VTALRM and PROF. */
	signal(SIGVTALRM, ring);
	signal(SIGPROF, ring);
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		timer.it_value.tv_usec = 30000;
		rings = 0;
		TRY(setitimer(which, &timer, NULL));
		while (!rings)
			;
		printf("rang %d\n", rings);
	}
	/* A child inherits no timer, a new program keeps it. */
	alarm(100);
	show_status("child", CHILD(TRY(alarm(0))));
	TRY(alarm(0));
	signal(SIGALRM, SIG_DFL);
	show_status("over exec", CHILD(alarm(1); execl("/bin/sleep", "sleep", "5", NULL)));
	return 0;
}
