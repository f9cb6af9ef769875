/* Which calls a handled signal interrupts, and which SA_RESTART starts again. */
#include "twin.h"
#include <poll.h>
#include <sys/select.h>

static volatile int handled;
static int pipes[2];

static void handler(int number)
{
	(void)number;
	handled++;
}

/* Interrupts its caller's next sleep several times, then lets a blocked reader go on. */
static pid_t disturber(void)
{
	pid_t parent = getpid(), child = fork();

	if (child == 0) {
		for (int i = 0; i < 3; i++) {
			sleep_ms(40);
			kill(parent, SIGUSR1);
		}
		sleep_ms(40);
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	return child;
}

#define DISTURBED(call)                                                                                                \
	do {                                                                                                           \
		pid_t child = disturber();                                                                             \
		char byte;                                                                                             \
		handled = 0;                                                                                           \
		TRY(call);                                                                                             \
		printf("  %s\n", handled == 3 ? "after all signals" : handled ? "after the first signal" : "before");  \
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)                                                  \
			;                                                                                              \
		fcntl(pipes[0], F_SETFL, O_NONBLOCK);                                                                  \
		while (read(pipes[0], &byte, 1) == 1)                                                                  \
			;                                                                                              \
		fcntl(pipes[0], F_SETFL, 0);                                                                           \
	} while (0)

int main(void)
{
	char byte;
	struct timespec second = {1, 0}, left;

	TRY(pipe(pipes));
	for (int restart = 0; restart < 2; restart++) {
		struct sigaction action = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
		struct pollfd poller = {pipes[0], POLLIN, 0};
		fd_set set;
		struct timeval timeout = {1, 0};
		int status;

		printf("--- %s\n", restart ? "SA_RESTART" : "no flags");
		sigaction(SIGUSR1, &action, NULL);
		DISTURBED(read(pipes[0], &byte, 1));
		DISTURBED(wait4(child, &status, 0, NULL) > 0 ? 1 : -1);
		DISTURBED(poll(&poller, 1, 1000));
		FD_ZERO(&set);
		FD_SET(pipes[0], &set);
		DISTURBED(select(pipes[0] + 1, &set, NULL, NULL, &timeout));
		DISTURBED(pause());
		DISTURBED(nanosleep(&second, &left));
		IS(left.tv_sec == 0 && left.tv_nsec > 0);
		DISTURBED(clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL) ? -1 : 0);
	}

	/* A signal without a handler interrupts nothing; a stop and continue starts the call again. */
	signal(SIGUSR1, SIG_IGN);
	DISTURBED(read(pipes[0], &byte, 1));
	pid_t sleeper = fork();
	if (sleeper == 0)
		_exit(read(pipes[0], &byte, 1) == 1 ? 5 : 6);
	sleep_ms(40);
	kill(sleeper, SIGSTOP);
	waitpid(sleeper, NULL, WUNTRACED);
	kill(sleeper, SIGCONT);
	TRY(write(pipes[1], "y", 1));
	int status;
	waitpid(sleeper, &status, 0);
	show_status("read over a stop", status);

	/* A full pipe: what was written before the signal counts. */
	struct sigaction action = {.sa_handler = handler};
	sigaction(SIGALRM, &action, NULL);
	static char block[200000];
	struct itimerval soon = {{0, 0}, {0, 100000}};
	setitimer(ITIMER_REAL, &soon, NULL);
	TRY(write(pipes[1], block, sizeof block));
	return 0;
}
