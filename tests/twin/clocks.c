/* clock_gettime(2), nanosleep(2), times(2): how clocks relate, and the errors. */
#include "twin.h"
#include <sys/times.h>

static long ns(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time))
		return -1;
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Works for 50 ms of processor time, however long others take theirs. Gives the time got. */
static long work(void)
{
	long cpu = ns(CLOCK_PROCESS_CPUTIME_ID), before = ns(CLOCK_MONOTONIC), got;

	do
		got = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	while (got < 50000000 && ns(CLOCK_MONOTONIC) - before < 20000000000);
	return got;
}

int main(void)
{
	struct timespec moment, left = {-5, -5};
	struct timeval of_day;
	struct timezone zone;
	struct tms tms;

	for (int clock = -1; clock < 14; clock++) {
		char what[40];
		struct timespec resolution = {-1, -1};
		errno = 0;
		snprintf(what, sizeof what, "clock %d", clock);
		int result = clock_gettime(clock, &moment);
		printf("%s: %s", what, result ? strerrorname_np(errno) : "fine");
		result = clock_getres(clock, &resolution);
		printf(", resolution %s %ld\n", result ? strerrorname_np(errno) : "fine",
		       clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ? 0 : resolution.tv_nsec);
	}
	long last = 0, backwards = 0;
	for (int i = 0; i < 100000; i++) {
		long now = ns(CLOCK_MONOTONIC);
		backwards += now < last;
		last = now;
	}
	printf("backwards %ld\n", backwards);
	IS(ns(CLOCK_BOOTTIME) >= ns(CLOCK_MONOTONIC) - 1000000);
	TRY(gettimeofday(&of_day, &zone));
	IS(labs(ns(CLOCK_REALTIME) / 1000 - (of_day.tv_sec * 1000000L + of_day.tv_usec)) < 1000000);
	IS(labs(time(NULL) - of_day.tv_sec) <= 1);
	printf("zone %d %d\n", zone.tz_minuteswest, zone.tz_dsttime);
	IS(of_day.tv_sec > 1600000000);

	long before = ns(CLOCK_MONOTONIC);
	moment = (struct timespec){0, 50000000};
	TRY(nanosleep(&moment, &left));
	IS(ns(CLOCK_MONOTONIC) - before >= 50000000);
	IS(ns(CLOCK_MONOTONIC) - before < 2000000000);
	moment = (struct timespec){0, 1000000000};
	TRY(nanosleep(&moment, NULL));
	moment = (struct timespec){-1, 0};
	TRY(nanosleep(&moment, NULL));
	TRY(nanosleep((void *)8, NULL));
	moment = (struct timespec){0, 0};
	TRY(nanosleep(&moment, NULL));
	TRY(clock_nanosleep(99, 0, &moment, NULL));
	TRY(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL));
	TRY(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &moment, NULL));

	/* Processor time grows with work, and not with sleep. */
	long cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
	sleep_ms(100);
	IS(ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 90000000);
	IS(work() > 10000000);
	CHILD(work(););
	IS(times(&tms) > 0);
	IS(tms.tms_utime + tms.tms_stime > 0);
	IS(tms.tms_cutime + tms.tms_cstime > 0);
	struct rusage usage;
	TRY(getrusage(RUSAGE_SELF, &usage));
	IS(usage.ru_maxrss > 0 && usage.ru_minflt > 0);
	TRY(getrusage(RUSAGE_CHILDREN, &usage));
	TRY(getrusage(99, &usage));
	TRY(syscall(SYS_clock_gettime, CLOCK_REALTIME, (void *)8));
	show_status("a user", CHILD(setuid(1000); moment.tv_sec = 5; TRY(clock_settime(CLOCK_REALTIME, &moment))));
	TRY(clock_settime(CLOCK_MONOTONIC, &moment));
	return 0;
}
