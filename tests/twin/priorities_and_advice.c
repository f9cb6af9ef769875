/* setpriority(2), posix_fadvise(2), the bounding set of capabilities, large polls: what is clamped and what is refused. */
#include "twin.h"
#include <poll.h>
#include <sys/prctl.h>

static void priorities(void)
{
	for (int i = 0; i < 6; i++) {
		int nice = (int[]){-100, -20, 0, 5, 19, 100}[i];
		printf("%d: ", nice);
		TRY(setpriority(PRIO_PROCESS, 0, nice));
		TRY(getpriority(PRIO_PROCESS, 0));
	}
	/* The most favoured of several counts. */
	setpgid(0, 0);
	CHILD(setpriority(PRIO_PROCESS, 0, 3); TRY(getpriority(PRIO_PGRP, 0)); TRY(setpriority(PRIO_PGRP, 0, 7));
	      TRY(getpriority(PRIO_PROCESS, 0)));
	TRY(getpriority(PRIO_PROCESS, 0));
	TRY(setpriority(PRIO_PROCESS, 999999, 1));
	TRY(getpriority(PRIO_PGRP, 999999));
	TRY(setpriority(3, 0, 1));
	TRY(setpriority(-1, 0, 1));
	/* Without rights it goes one way. */
	show_status("a user", CHILD(setuid(1000); TRY(setpriority(PRIO_PROCESS, 0, 10)); TRY(setpriority(PRIO_PROCESS, 0, 9));
				    TRY(setpriority(PRIO_PROCESS, 0, 10)); TRY(setpriority(PRIO_PROCESS, getppid(), 11))));
}

static void advice(void)
{
	int ends[2], file = open("/tmp", O_RDONLY), place = open("/tmp", O_PATH);

	pipe(ends);
	make_file("/tmp/advised", "text");
	int regular = open("/tmp/advised", O_RDONLY);
	for (int kind = -1; kind < 8; kind++) {
		printf("%d: ", kind);
		TRY(posix_fadvise(regular, 0, 0, kind));
	}
	TRY(posix_fadvise(regular, -5, 0, POSIX_FADV_NORMAL));
	TRY(posix_fadvise(regular, 0, -1, POSIX_FADV_NORMAL));
	TRY(posix_fadvise(ends[0], 0, 0, POSIX_FADV_NORMAL));
	TRY(posix_fadvise(file, 0, 0, POSIX_FADV_WILLNEED));
	TRY(posix_fadvise(place, 0, 0, POSIX_FADV_NORMAL));
	TRY(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL));
	unlink("/tmp/advised");
}

static void bounding_set(void)
{
	int has = 0;

	for (int number = 0; number <= 40; number++)
		has += prctl(PR_CAPBSET_READ, number) == 1;
	printf("%d capabilities\n", has);
	for (int i = 0; i < 5; i++) {
		int number = (int[]){0, 7, 31, 33, 40}[i];
		TRY(prctl(PR_CAPBSET_DROP, number));
		printf("without %d:", number);
		for (int other = 0; other <= 40; other++)
			printf("%ld", (long)prctl(PR_CAPBSET_READ, other));
		printf("\n");
	}
	TRY(prctl(PR_CAPBSET_READ, 41));
	TRY(prctl(PR_CAPBSET_READ, -1));
	TRY(prctl(PR_CAPBSET_DROP, 41));
	setuid(1000);
	TRY(prctl(PR_CAPBSET_DROP, 1));
	TRY(prctl(PR_CAPBSET_READ, 1));
}

/* More than the kernel looks at in one go. */
static void large_polls(void)
{
	enum { MANY = 6000 };
	static struct pollfd all[MANY];
	struct rlimit limit = {MANY, MANY};
	int ends[2];

	pipe(ends);
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < MANY; i++)
		all[i] = (struct pollfd){.fd = i % 3 == 0 ? ends[0] : i % 3 == 1 ? -1 : 4000, .events = POLLIN};
	TRY(poll(all, MANY, 0));
	for (int i = 0; i < MANY; i += 3)
		all[i + 2].fd = -1;
	TRY(poll(all, MANY, 0));
	TRY(poll(all, MANY, 20));
	all[MANY - 1] = (struct pollfd){.fd = ends[1], .events = POLLOUT};
	TRY(poll(all, MANY, 0));
	TRY(poll(all, MANY, -1));
	printf("%d %d\n", all[0].revents, all[MANY - 1].revents == POLLOUT);
	all[MANY - 1].fd = -1;
	if (fork() == 0) {
		sleep_ms(30);
		write(ends[1], "x", 1);
		_exit(0);
	}
	TRY(poll(all, MANY, -1));
	TRY(syscall(SYS_poll, all, MANY + 1, 0));
	TRY(syscall(SYS_poll, NULL, MANY, 0));
	wait(NULL);
}

int main(void)
{
	priorities();
	advice();
	show_status("bounding set", CHILD(bounding_set()));
	show_status("polls", CHILD(large_polls()));
	return 0;
}
