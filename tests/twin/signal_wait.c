/* sigtimedwait(2), sigqueue(3), real-time signals: queued in order, with their values, lowest number first. */
#include "twin.h"

static int got[64], values[64], count;

static void handler(int number, siginfo_t *info, void *context)
{
	(void)context;
	got[count] = number;
	values[count++] = info->si_value.sival_int;
}

static void queue(int number, int value)
{
	union sigval content = {.sival_int = value};

	if (sigqueue(getpid(), number, content))
		printf("sigqueue: %s\n", strerrorname_np(errno));
}

static void wait_for(sigset_t *set, long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
	siginfo_t info = {0};
	int number = sigtimedwait(set, &info, &time);

	if (number < 0)
		printf("sigtimedwait: %s\n", strerrorname_np(errno));
	else
		printf("sigtimedwait: %d code %d value %d\n", number, info.si_code, info.si_value.sival_int);
}

int main(void)
{
	sigset_t set, none;
	int first = SIGRTMIN;

	sigemptyset(&none);
	sigemptyset(&set);
	for (int i = 0; i < 4; i++)
		sigaddset(&set, first + i);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	wait_for(&set, 0);
	wait_for(&set, 20);
	for (int i = 0; i < 6; i++)
		queue(first + 3 - i % 3, i);
	queue(SIGUSR1, 100);
	queue(SIGUSR1, 101);
	for (int i = 0; i < 9; i++)
		wait_for(&set, 0);

	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	action.sa_mask = set;
	for (int i = 0; i < 4; i++)
		sigaction(first + i, &action, NULL);
	for (int i = 0; i < 8; i++)
		queue(first + i % 4, i);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < count; i++)
		printf("handled %d value %d\n", got[i] - first, values[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);

	/* A child's end wakes a waiter, and kill of 0 only asks. */
	if (fork() == 0)
		_exit(3);
	siginfo_t info;
	TRY(sigwaitinfo(&set, &info));
	printf("child: code %d status %d\n", info.si_code, info.si_status);
	TRY(kill(getpid(), 0));
	TRY(kill(getpid(), 65));
	TRY(kill(getpid(), -1));
	TRY(kill(1000000, 0));
	TRY(kill(INT_MIN, SIGTERM));
	TRY(syscall(SYS_tgkill, getpid(), getpid(), 0));
	TRY(syscall(SYS_tgkill, -1, getpid(), 0));
	TRY(syscall(SYS_tgkill, getpid(), 1000000, 0));
	TRY(syscall(SYS_tkill, 0, SIGTERM));
	union sigval value = {0};
	TRY(sigqueue(1000000, SIGTERM, value));
	struct timespec bad = {0, -1};
	TRY(sigtimedwait(&set, NULL, &bad));
	TRY(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 4));

	/* Only so many may be queued. */
	struct rlimit limit = {3, 3};
	setrlimit(RLIMIT_SIGPENDING, &limit);
	for (int i = 0; i < 5; i++)
		TRY(sigqueue(getpid(), first, value));
	return 0;
}
