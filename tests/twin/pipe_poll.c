/* poll(2) on pipes: readiness and hang-up as bytes and ends come and go. */
#include "twin.h"
#include <poll.h>

static char block[65536];

static void show(const char *when, int pipes[2])
{
	struct pollfd files[2] = {{pipes[0], POLLIN, 0}, {pipes[1], POLLOUT, 0}};
	int count = poll(files, 2, 0);

	printf("%s: %d, read end %#x, write end %#x\n", when, count, files[0].revents, files[1].revents);
}

int main(void)
{
	int pipes[2], read_end, write_end;

	pipe2(pipes, O_NONBLOCK);
	show("empty", pipes);
	write(pipes[1], "x", 1);
	show("one byte", pipes);
	write(pipes[1], block, 4095);
	write(pipes[1], block, 65536 - 8192);
	show("nearly full", pipes);
	write(pipes[1], block, 4096);
	show("full", pipes);
	read(pipes[0], block, 100);
	show("100 read", pipes);
	read(pipes[0], block, 4096);
	show("4196 read", pipes);
	read_end = dup(pipes[0]), write_end = dup(pipes[1]);
	close(pipes[1]);
	pipes[1] = write_end;
	show("one of two writers gone", pipes);
	close(pipes[1]);
	pipes[1] = -1;
	show("no writer", pipes);
	while (read(pipes[0], block, sizeof block) > 0)
		;
	show("no writer, empty", pipes);
	close(pipes[0]);
	close(read_end);
	pipe(pipes);
	read_end = pipes[0];
	close(read_end);
	pipes[0] = -1;
	show("no reader", pipes);
	struct pollfd closed = {read_end, POLLIN, 0};
	printf("closed: %d %#x\n", poll(&closed, 1, 0), closed.revents);
	/* No events asked for: hang-up is told all the same. */
	struct pollfd silent = {pipes[1], 0, 0};
	printf("silent: %d %#x\n", poll(&silent, 1, 0), silent.revents);
	/* A waiting poll is woken by the write of another process. */
	pipe(pipes);
	struct pollfd waiter = {pipes[0], POLLIN | POLLRDNORM, 0};
	show_status("waiter", CHILD(if (fork() == 0) { sleep_ms(50); write(pipes[1], "x", 1); _exit(0); }
				    TRY(poll(&waiter, 1, 5000)); printf("%#x\n", waiter.revents)));
	show_status("hang-up", CHILD(if (fork() == 0) { sleep_ms(50); _exit(0); } close(pipes[1]);
				     TRY(poll(&waiter, 1, 5000)); printf("%#x\n", waiter.revents)));
	return 0;
}
