/* exit_group(2), exit(2), atexit(3): which status the parent sees, also from threads. */
#include "twin.h"
#include <pthread.h>

static void last(void)
{
	printf("  at exit\n");
}

static void *quit(void *status)
{
	_exit((int)(long)status);
}

static void *leave(void *status)
{
	syscall(SYS_exit, (int)(long)status);
	return NULL;
}

int main(void)
{
	pthread_t thread;

	show_status("exit", CHILD(atexit(last); exit(300)));
	show_status("_exit", CHILD(atexit(last); _exit(-1)));
	show_status("exit_group from a thread", CHILD(pthread_create(&thread, NULL, quit, (void *)9L); for (;;) pause()));
	show_status("a thread leaves, main stays", CHILD(pthread_create(&thread, NULL, leave, (void *)9L); sleep_ms(50);
							 _exit(4)));
	show_status("main leaves first", CHILD(pthread_create(&thread, NULL, quit, (void *)6L); syscall(SYS_exit, 5)));
	show_status("only main, exit(2)", CHILD(syscall(SYS_exit, 8)));
	for (int number = 1; number < 32; number++) {
		if (number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU)
			continue;
		char what[32];
		snprintf(what, sizeof what, "signal %d", number);
		show_status(what, CHILD(raise(number)));
	}
	show_status("first real-time signal", CHILD(raise(SIGRTMIN)));
	show_status("last real-time signal", CHILD(raise(SIGRTMAX)));
	return 0;
}
