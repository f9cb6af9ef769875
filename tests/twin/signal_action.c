/* sigaction(2): SA_NODEFER, SA_RESETHAND, SA_SIGINFO, sa_mask, and what cannot be changed. */
#include "twin.h"

static volatile int depth, deepest;
static siginfo_t last;
static volatile int raise_inside, raises;

static void nesting(int number)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	printf("  enter %s, depth %d\n", signal_name(number), depth);
	if (raises-- > 0)
		raise(raise_inside);
	printf("  leave %s, depth %d\n", signal_name(number), depth);
	depth--;
}

static void information(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	last = *info;
}

static void set(int number, void *handler, int flags, int also_blocked)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	if (also_blocked)
		sigaddset(&action.sa_mask, also_blocked);
	printf("sigaction %s flags %#x: %s\n", signal_name(number), (unsigned)flags,
	       sigaction(number, &action, NULL) ? strerrorname_np(errno) : "fine");
}

int main(void)
{
	struct sigaction old;

	TRY(sigaction(0, NULL, NULL));
	TRY(sigaction(65, NULL, NULL));
	set(SIGKILL, nesting, 0, 0);
	set(SIGSTOP, nesting, 0, 0);
	TRY(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
	TRY(sigaction(SIGKILL, NULL, &old));

	raise_inside = SIGUSR1;
	raises = 2;
	set(SIGUSR1, nesting, 0, 0);
	raise(SIGUSR1);
	set(SIGUSR1, nesting, SA_NODEFER, 0);
	raises = 2;
	raise(SIGUSR1);
	raise_inside = SIGUSR2;
	raises = 2;
	set(SIGUSR1, nesting, 0, SIGUSR2);
	set(SIGUSR2, nesting, 0, 0);
	raise(SIGUSR1);
	raises = 0;
	set(SIGUSR1, nesting, SA_RESETHAND, 0);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &old);
	IS(old.sa_handler == SIG_DFL);
	show_status("a second time", CHILD(raise(SIGUSR1)));

	set(SIGUSR1, information, SA_SIGINFO, 0);
	sigaction(SIGUSR1, NULL, &old);
	printf("flags kept %#x\n", (unsigned)old.sa_flags);
	raise(SIGUSR1);
	printf("raise: code %d\n", last.si_code);
	IS(last.si_pid == getpid() && last.si_uid == 0);
	kill(getpid(), SIGUSR1);
	printf("kill: code %d\n", last.si_code);
	union sigval value = {.sival_int = 1234};
	sigqueue(getpid(), SIGUSR1, value);
	printf("sigqueue: code %d value %d\n", last.si_code, last.si_value.sival_int);

	set(SIGCHLD, information, SA_SIGINFO, 0);
	CHILD(_exit(17));
	printf("exited child: code %d status %d\n", last.si_code, last.si_status);
	CHILD(raise(SIGTERM));
	printf("killed child: code %d status %s\n", last.si_code, signal_name(last.si_status));
	set(SIGCHLD, SIG_DFL, SA_NOCLDWAIT, 0);
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	TRY(waitpid(child, NULL, 0));
	set(SIGCHLD, SIG_DFL, 0, 0);

	raises = 0;
	/* Registers survive a handler. */
	set(SIGUSR2, nesting, 0, 0);
	double before[8], after = 0;
	for (int i = 0; i < 8; i++)
		before[i] = i * 1.5;
	raise(SIGUSR2);
	for (int i = 0; i < 8; i++)
		after += before[i];
	printf("sum %.2f\n", after);
	/* Handlers are reset by exec, ignoring is kept. */
	signal(SIGHUP, nesting);
	signal(SIGINT, SIG_IGN);
	show_status("handler after exec", CHILD(execl("/bin/sh", "sh", "-c", "kill -HUP $$; exit 3", NULL)));
	show_status("ignored after exec", CHILD(execl("/bin/sh", "sh", "-c", "kill -INT $$; exit 3", NULL)));
	return 0;
}
