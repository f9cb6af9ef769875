/* getrlimit(2), prlimit64(2): defaults, and who may raise what. */
#include "twin.h"

int main(void)
{
	struct rlimit limit, old;
	const int fixed[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_AS, RLIMIT_LOCKS,
		RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_NOFILE, RLIMIT_MSGQUEUE};

	for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++) {
		getrlimit(fixed[i], &limit);
		printf("limit %d: %ld %ld\n", fixed[i], (long)limit.rlim_cur, (long)limit.rlim_max);
	}
	TRY(getrlimit(99, &limit));
	TRY(getrlimit(RLIMIT_CPU, (void *)8));
	limit = (struct rlimit){20, 10};
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	limit = (struct rlimit){10, 20};
	TRY(prlimit(0, RLIMIT_NOFILE, &limit, &old));
	TRY(prlimit(0, RLIMIT_NOFILE, NULL, &old));
	printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
	TRY(prlimit(1000000, RLIMIT_NOFILE, NULL, &old));
	show_status("child inherits", CHILD(getrlimit(RLIMIT_NOFILE, &old); printf("%ld\n", (long)old.rlim_cur)));
	show_status("shell inherits", CHILD(execl("/bin/sh", "sh", "-c", "ulimit -n", NULL)));
	limit = (struct rlimit){30, 30};
	show_status("a user", CHILD(setuid(1000); TRY(setrlimit(RLIMIT_NOFILE, &limit)); limit.rlim_cur = limit.rlim_max = 5;
				    TRY(setrlimit(RLIMIT_NOFILE, &limit)); limit.rlim_max = 6; TRY(setrlimit(RLIMIT_NOFILE, &limit));
				    TRY(prlimit(1, RLIMIT_NOFILE, NULL, &old))));
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	limit = (struct rlimit){1 << 30, 1 << 30};
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	/* Processor time: a signal each second from the soft limit on, the end at the hard one. */
	limit = (struct rlimit){1, 1};
	show_status("processor time", CHILD(setrlimit(RLIMIT_CPU, &limit); for (;;)));
	limit = (struct rlimit){3, 3};
	show_status("processes", CHILD(setuid(4321); setrlimit(RLIMIT_NPROC, &limit); int made = 0;
				       for (int i = 0; i < 6; i++) { pid_t c = fork(); if (c == 0) { sleep_ms(200); _exit(0); } made += c > 0; }
				       printf("made %d, then %s\n", made, strerrorname_np(errno)); while (wait(NULL) > 0);));
	return 0;
}
