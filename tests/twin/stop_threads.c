/* Stopping and continuing a process with threads: each stop is reported, nothing runs in it, and threads may come and go. */
#include "twin.h"

#include <pthread.h>

/* Longer than anything takes: what has not happened by then never will. */
#define PATIENCE 30000

static volatile long *progress;

static void *waits(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void *spins(void *arg)
{
	(void)arg;
	for (;;)
		__sync_fetch_and_add(progress, 1);
	return NULL;
}

static void *works(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		__sync_fetch_and_add(progress, 1);
	return NULL;
}

static void *spawns(void *arg)
{
	pthread_attr_t attributes;
	pthread_t thread;

	(void)arg;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 16384);
	/* A pause, so that a machine that is slower to run threads than to make them does not drown in them. */
	for (;;) {
		pthread_create(&thread, &attributes, works, NULL);
		usleep(20);
	}
	return NULL;
}

/* Makes a process with this many threads more that do this. */
static pid_t process(int count, void *(*act)(void *))
{
	pid_t child = fork();

	if (child == 0) {
		pthread_t thread;

		while (count--)
			if (pthread_create(&thread, NULL, act, NULL))
				puts("no thread");
		act(NULL);
	}
	sleep_ms(50);
	return child;
}

/* The next report of a child; gives up late. */
static int report(pid_t child, int options)
{
	int status = -1, found = 0;

	for (int patience = PATIENCE; found == 0 && patience > 0; patience--) {
		found = waitpid(child, &status, options | WNOHANG);
		if (found == 0)
			sleep_ms(1);
	}
	return found == child ? status : -1;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	show_status("killed", report(child, 0));
}

/* The second stop comes before any thread has noticed that the first is over. */
static void stopped_again_at_once(const char *name, int count, void *(*act)(void *), int rounds)
{
	pid_t child = process(count, act);
	int missed = 0;

	for (int round = 0; round < rounds && !missed; round++) {
		kill(child, SIGSTOP);
		missed += !WIFSTOPPED(report(child, WUNTRACED));
		kill(child, SIGCONT);
		kill(child, SIGSTOP);
		missed += !WIFSTOPPED(report(child, WUNTRACED));
		kill(child, SIGCONT);
		missed += !WIFCONTINUED(report(child, WCONTINUED));
	}
	printf("%s: missed %d\n", name, missed);
	end(child);
}

/* Threads are made and end in the middle of stops. */
static void stopped_in_a_crowd(void)
{
	pid_t child = process(1, spawns);
	int missed = 0, ran = 0;

	for (int round = 0; round < 25 && !missed; round++) {
		long before;

		kill(child, SIGSTOP);
		missed += !WIFSTOPPED(report(child, WUNTRACED));
		before = *progress;
		sleep_ms(2);
		ran += *progress != before;
		kill(child, SIGCONT);
		usleep(1500);
	}
	printf("missed %d, ran while stopped %d\n", missed, ran);
	end(child);
}

static void killed_while_stopped(void)
{
	pid_t child = process(3, waits);

	kill(child, SIGSTOP);
	show_status("stopped", report(child, WUNTRACED));
	TRY(waitpid(child, NULL, WUNTRACED | WNOHANG));
	kill(child, SIGTERM);
	sleep_ms(20);
	TRY(waitpid(child, NULL, WUNTRACED | WCONTINUED | WNOHANG));
	kill(child, SIGCONT);
	show_status("continued, with SIGTERM pending", report(child, WUNTRACED));
	child = process(3, waits);
	kill(child, SIGSTOP);
	show_status("stopped", report(child, WUNTRACED));
	end(child);
}

/* A stopped process goes on to wait for nothing more when it is continued twice. */
static void continued_twice(void)
{
	pid_t child = process(2, waits);

	kill(child, SIGCONT);
	TRY(waitpid(child, NULL, WCONTINUED | WNOHANG));
	kill(child, SIGSTOP);
	show_status("stopped", report(child, WUNTRACED));
	kill(child, SIGCONT);
	kill(child, SIGCONT);
	show_status("continued", report(child, WCONTINUED));
	TRY(waitpid(child, NULL, WCONTINUED | WNOHANG));
	end(child);
}

int main(void)
{
	progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stopped_again_at_once("sleepers", 1, waits, 20);
	stopped_again_at_once("eight that spin", 7, spins, 10);
	stopped_in_a_crowd();
	killed_while_stopped();
	continued_twice();
	return 0;
}
