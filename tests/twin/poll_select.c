/* poll(2), ppoll(2), select(2), pselect(2): arguments, time-outs, regular files, and masks. */
#include "twin.h"
#include <poll.h>
#include <sys/select.h>

static volatile int handled;

static void handler(int number)
{
	(void)number;
	handled++;
}

static long elapsed(struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

int main(void)
{
	struct pollfd files[4];
	struct timespec start, zero = {0, 0}, negative = {0, -1}, little = {0, 30000000};
	struct timeval time;
	fd_set reads, writes;
	int pipes[2];

	pipe(pipes);
	clock_gettime(CLOCK_MONOTONIC, &start);
	TRY(poll(NULL, 0, 30));
	IS(elapsed(&start) >= 30);
	TRY(poll(files, 100000000, 0));
	TRY(poll((struct pollfd *)8, 1, 0));
	TRY(ppoll(NULL, 0, &negative, NULL));
	TRY(ppoll(NULL, 0, &zero, NULL));
	files[0] = (struct pollfd){-1, POLLIN, 77};
	files[1] = (struct pollfd){99, POLLIN, 0};
	files[2] = (struct pollfd){pipes[1], POLLOUT, 0};
	TRY(poll(files, 3, 1000));
	printf("%#x %#x %#x\n", files[0].revents, files[1].revents, files[2].revents);
	enter_folder("poll");
	make_file("file", "text");
	files[0] = (struct pollfd){open("file", O_RDWR), POLLIN | POLLOUT | POLLPRI, 0};
	files[1] = (struct pollfd){open(".", O_RDONLY), POLLIN | POLLOUT, 0};
	files[2] = (struct pollfd){open("/dev/null", O_RDWR), POLLIN | POLLOUT, 0};
	files[3] = (struct pollfd){open("/dev/zero", O_RDWR), POLLIN | POLLOUT, 0};
	TRY(poll(files, 4, 0));
	for (int i = 0; i < 4; i++)
		printf("%#x\n", files[i].revents);

	FD_ZERO(&reads);
	FD_ZERO(&writes);
	FD_SET(pipes[0], &reads);
	FD_SET(pipes[1], &reads);
	FD_SET(pipes[1], &writes);
	time = (struct timeval){0, 30000};
	TRY(select(pipes[1] + 1, &reads, &writes, NULL, &time));
	printf("%d %d %d\n", FD_ISSET(pipes[0], &reads) != 0, FD_ISSET(pipes[1], &reads) != 0,
	       FD_ISSET(pipes[1], &writes) != 0);
	FD_ZERO(&reads);
	FD_SET(pipes[0], &reads);
	time = (struct timeval){0, 30000};
	TRY(select(pipes[0] + 1, &reads, NULL, NULL, &time));
	printf("left %ld.%06ld, set %d\n", (long)time.tv_sec, (long)time.tv_usec, FD_ISSET(pipes[0], &reads) != 0);
	FD_SET(60, &reads);
	time = (struct timeval){0, 0};
	TRY(select(61, &reads, NULL, NULL, &time));
	TRY(select(-1, NULL, NULL, NULL, &time));
	time.tv_usec = -1;
	TRY(select(0, NULL, NULL, NULL, &time));
	time = (struct timeval){0, 2000000};
	FD_ZERO(&writes);
	FD_SET(pipes[1], &writes);
	TRY(select(pipes[1] + 1, NULL, &writes, NULL, &time));
	TRY(select(1, (fd_set *)8, NULL, NULL, &time));

	/* The mask holds only during the wait. */
	sigset_t none, usr;
	signal(SIGUSR1, handler);
	sigemptyset(&none), sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr, NULL);
	raise(SIGUSR1);
	TRY(pselect(0, NULL, NULL, NULL, &little, NULL));
	printf("handled %d\n", handled);
	TRY(pselect(0, NULL, NULL, NULL, &little, &none));
	printf("handled %d\n", handled);
	raise(SIGUSR1);
	TRY(ppoll(NULL, 0, &little, &none));
	printf("handled %d\n", handled);
	raise(SIGUSR1);
	/* Ready files come before the signal. */
	files[0] = (struct pollfd){pipes[1], POLLOUT, 0};
	TRY(ppoll(files, 1, &little, &none) > 0 ? 1 : -1);
	return 0;
}
