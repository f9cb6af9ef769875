/* Signals of a process with several threads: whoever can't take one any more leaves it to another. */
#include "twin.h"

#include <poll.h>
#include <pthread.h>

/* Longer than anything takes: what has not happened by then never will. */
#define PATIENCE 15000

static volatile int got, inner, released;
static char order[8];

static void note(int number)
{
	(void)number;
	got++;
}

static sigset_t set_of(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	if (signal)
		sigaddset(&set, signal);
	return set;
}

static void block(int how, int signal)
{
	sigset_t set = set_of(signal);

	pthread_sigmask(how, &set, NULL);
}

static void handle(int signal, void (*handler)(int), int blocked)
{
	struct sigaction action = {.sa_handler = handler, .sa_mask = set_of(blocked)};

	sigaction(signal, &action, NULL);
}

static int comes(volatile int *what)
{
	for (int patience = PATIENCE; !*what && patience > 0; patience--)
		sleep_ms(1);
	return *what;
}

static void *takes_usr1(void *arg)
{
	(void)arg;
	block(SIG_UNBLOCK, SIGUSR1);
	for (;;)
		pause();
	return NULL;
}

static void start(void *(*act)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, act, NULL))
		puts("no thread");
}

/* ppoll returns for a byte, and blocks again the signal that came in the same moment. */
static void a_mask_for_one_call(void)
{
	int lost = 0;

	handle(SIGUSR1, note, 0);
	block(SIG_BLOCK, SIGUSR1);
	for (int round = 0; round < 10; round++) {
		int ends[2], status;
		pid_t child;

		if (pipe(ends))
			puts("no pipe");
		child = fork();
		if (child == 0) {
			struct pollfd file = {ends[0], POLLIN, 0};
			sigset_t none = set_of(0);

			start(takes_usr1);
			sleep_ms(10);
			ppoll(&file, 1, &(struct timespec){PATIENCE / 1000, 0}, &none);
			_exit(!comes(&got));
		}
		sleep_ms(30);
		if (write(ends[1], "x", 1) != 1)
			puts("no write");
		kill(child, SIGUSR1);
		waitpid(child, &status, 0);
		lost += status != 0;
		close(ends[0]);
		close(ends[1]);
	}
	printf("lost: %d\n", lost);
}

/* This handler ends when the other signal has been taken, which it blocks. */
static void waits_for_the_other(int number)
{
	(void)number;
	for (int patience = PATIENCE; !got && patience > 0; patience--)
		sleep_ms(1);
	inner = got;
	released = 1;
}

static void *takes_usr2(void *arg)
{
	(void)arg;
	block(SIG_BLOCK, SIGUSR1);
	for (;;)
		pause();
	return NULL;
}

static void a_handler_s_mask(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		handle(SIGUSR1, waits_for_the_other, SIGUSR2);
		handle(SIGUSR2, note, 0);
		start(takes_usr2);
		sleep_ms(20);
		kill(getpid(), SIGSTOP);
		comes(&released);
		_exit(inner == 1 ? 0 : 1);
	}
	waitpid(child, &status, WUNTRACED);
	/* Both are pending when it goes on. */
	kill(child, SIGUSR2);
	kill(child, SIGUSR1);
	kill(child, SIGCONT);
	waitpid(child, &status, 0);
	show_status("a handler blocks the other signal", status);
}

static void *ends_at_once(void *arg)
{
	block(SIG_UNBLOCK, SIGUSR1);
	__sync_fetch_and_add((volatile int *)arg, 1);
	while (!released)
		;
	return NULL;
}

/* The thread that the signal was given to ends before it takes it. */
static void a_thread_that_ends(void)
{
	int lost = 0;

	handle(SIGUSR1, note, 0);
	block(SIG_BLOCK, SIGUSR1);
	for (int round = 0; round < 40 && !lost; round++) {
		pthread_t first, second;
		volatile int ready = 0;

		got = released = 0;
		if (pthread_create(&first, NULL, ends_at_once, (void *)&ready) ||
		    pthread_create(&second, NULL, takes_usr1, NULL))
			puts("no thread");
		while (!ready)
			sched_yield();
		released = 1;
		for (volatile int spin = 0; spin < round * 200; spin++)
			;
		kill(getpid(), SIGUSR1);
		lost += !comes(&got);
		pthread_join(first, NULL);
		pthread_cancel(second);
		pthread_join(second, NULL);
	}
	printf("lost: %d\n", lost);
}

static void *waits_in_vain(void *arg)
{
	sigset_t set = set_of(SIGUSR1);
	siginfo_t information;

	for (;;) {
		int signal = sigtimedwait(&set, &information, &(struct timespec){0, (long)arg * 1000});

		if (signal == SIGUSR1)
			got++;
	}
	return NULL;
}

/* Two threads wait for a signal, and give up now and then. */
static void a_wait_that_ends(void)
{
	pthread_t thread;
	int lost = 0;

	block(SIG_BLOCK, SIGUSR1);
	if (pthread_create(&thread, NULL, waits_in_vain, (void *)300L) ||
	    pthread_create(&thread, NULL, waits_in_vain, (void *)400000L))
		puts("no thread");
	for (int round = 0; round < 100 && !lost; round++) {
		got = 0;
		kill(getpid(), SIGUSR1);
		lost += !comes(&got);
	}
	printf("lost: %d\n", lost);
}

static void first(int number)
{
	strcat(order, number == SIGUSR1 ? "1" : "2");
}

/* sigsuspend lets both in; the mask from before comes back when both have been handled. */
static void two_in_one_suspension(void)
{
	sigset_t both, none = set_of(0), pending;

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	handle(SIGUSR1, first, 0);
	handle(SIGUSR2, first, 0);
	sigprocmask(SIG_BLOCK, &both, NULL);
	raise(SIGUSR1);
	raise(SIGUSR2);
	TRY(sigsuspend(&none));
	sigpending(&pending);
	printf("handled: %s\n", order);
	IS(!sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
	sigprocmask(SIG_BLOCK, NULL, &pending);
	IS(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2));
}

int main(void)
{
	show_status("a mask for one call", CHILD(a_mask_for_one_call()));
	a_handler_s_mask();
	show_status("a thread that ends", CHILD(a_thread_that_ends()));
	show_status("a wait that ends", CHILD(a_wait_that_ends()));
	show_status("two in one suspension", CHILD(two_in_one_suspension()));
	return 0;
}
