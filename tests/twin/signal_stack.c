/* sigaltstack(2): a handler on its own stack, which even a broken stack pointer survives. */
#include "twin.h"

static char *spare;
static const size_t size = 64 * 1024;

static void where(int number)
{
	char here;
	stack_t now;

	printf("  %s on the %s stack", signal_name(number),
	       &here >= spare && &here < spare + size ? "alternate" : "usual");
	sigaltstack(NULL, &now);
	printf(", flags %d\n", now.ss_flags);
	if (number == SIGUSR2)
		TRY(sigaltstack(&now, NULL));
	if (number == SIGSEGV)
		_exit(44);
}

static void set(int number, int flags)
{
	struct sigaction action = {.sa_handler = where, .sa_flags = flags};

	sigaction(number, &action, NULL);
}

static int overflow(int level)
{
	volatile char frame[4096];

	frame[0] = (char)level;
	return level < 0 ? 0 : overflow(level + 1) + frame[0];
}

int main(void)
{
	stack_t stack = {.ss_size = size}, old;

	spare = stack.ss_sp = malloc(size);
	TRY(sigaltstack(NULL, &old));
	printf("flags at start %d\n", old.ss_flags);
	set(SIGUSR1, SA_ONSTACK);
	raise(SIGUSR1);
	TRY(sigaltstack(&stack, NULL));
	raise(SIGUSR1);
	set(SIGHUP, 0);
	raise(SIGHUP);
	set(SIGUSR2, SA_ONSTACK);
	raise(SIGUSR2);
	TRY(sigaltstack(NULL, &old));
	IS(old.ss_sp == spare && old.ss_size == size && old.ss_flags == 0);
	stack.ss_size = 100;
	TRY(sigaltstack(&stack, NULL));
	stack.ss_size = size;
	stack.ss_flags = 77;
	TRY(sigaltstack(&stack, NULL));
	stack.ss_flags = 0;
	set(SIGSEGV, SA_ONSTACK);
	show_status("overflow caught", CHILD(_exit(overflow(0))));
	set(SIGSEGV, 0);
	show_status("overflow without", CHILD(_exit(overflow(0))));
	show_status("a child has it", CHILD(raise(SIGUSR1)));
	stack.ss_flags = SS_DISABLE;
	TRY(sigaltstack(&stack, NULL));
	raise(SIGUSR1);
	/* A handler's stack that is no memory kills. */
	stack.ss_flags = 0;
	stack.ss_sp = (void *)PAGE;
	TRY(sigaltstack(&stack, NULL));
	show_status("nowhere", CHILD(raise(SIGUSR1)));
	return 0;
}
