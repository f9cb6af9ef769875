/* sigprocmask(2), sigpending(2), sigsuspend(2): blocked signals wait, once each, and are delivered in order. */
#include "twin.h"

static char order[64];
static int count;

static void note(int number)
{
	order[count++] = (char)number;
}

static void show(const char *when)
{
	printf("%s:", when);
	for (int i = 0; i < count; i++)
		printf(" %s", signal_name(order[i]));
	printf("\n");
	count = 0;
}

static void show_set(const char *what, const sigset_t *set)
{
	printf("%s:", what);
	for (int number = 1; number < 32; number++)
		if (sigismember(set, number))
			printf(" %s", signal_name(number));
	printf("\n");
}

int main(void)
{
	int numbers[] = {SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD};
	sigset_t set, old, pending;

	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
		signal(numbers[i], note);
	TRY(sigprocmask(99, &set, NULL));
	TRY(sigprocmask(99, NULL, &old));
	show_set("mask at start", &old);
	sigfillset(&set);
	TRY(sigprocmask(SIG_SETMASK, &set, &old));
	TRY(sigprocmask(SIG_BLOCK, NULL, &old));
	show_set("everything but", &old);
	IS(!sigismember(&old, SIGKILL) && !sigismember(&old, SIGSTOP));
	for (int round = 0; round < 2; round++)
		for (int i = 5; i >= 0; i--)
			raise(numbers[i]);
	sigpending(&pending);
	show_set("pending", &pending);
	show("blocked");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	TRY(sigprocmask(SIG_UNBLOCK, &set, NULL));
	show("USR1 unblocked");
	sigemptyset(&set);
	TRY(sigprocmask(SIG_SETMASK, &set, NULL));
	show("all unblocked");

	/* sigsuspend waits with another mask, and puts the old one back. */
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	sigemptyset(&set);
	TRY(sigsuspend(&set));
	show("sigsuspend");
	sigprocmask(SIG_BLOCK, NULL, &old);
	show_set("mask after sigsuspend", &old);

	/* Ignoring a pending signal discards it. */
	raise(SIGUSR2);
	signal(SIGUSR2, SIG_IGN);
	sigpending(&pending);
	show_set("pending after SIG_IGN", &pending);
	/* A child inherits the mask but nothing pending; exec keeps both, handlers become default. */
	signal(SIGUSR2, note);
	raise(SIGUSR2);
	show_status("child", CHILD(sigpending(&pending); show_set("child pending", &pending);
				   sigprocmask(SIG_BLOCK, NULL, &old); show_set("child mask", &old)));
	show_status("TERM by default", CHILD(signal(SIGTERM, SIG_DFL); raise(SIGTERM)));
	show_status("KILL cannot wait", CHILD(sigfillset(&set); sigprocmask(SIG_SETMASK, &set, NULL); raise(SIGKILL)));
	TRY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4));
	TRY(syscall(SYS_rt_sigpending, &set, 100));
	return 0;
}
