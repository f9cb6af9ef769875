/* pipe2(2): atomicity, capacity, what happens when one end is gone, non-blocking use. */
#include "twin.h"
#include <sys/ioctl.h>

static char block[200000];

static void full(int pipes[2], size_t piece)
{
	long total = 0, count;

	while ((count = write(pipes[1], block, piece)) > 0)
		total += count;
	printf("pieces of %zu: %ld bytes, then %s\n", piece, total, strerrorname_np(errno));
	while (read(pipes[0], block, sizeof block) > 0)
		;
}

int main(void)
{
	int pipes[2], waiting;

	TRY(pipe2(pipes, 0x40));
	TRY(pipe2((int *)8, 0));
	TRY(pipe2(pipes, O_NONBLOCK | O_CLOEXEC));
	TRY(fcntl(pipes[0], F_GETFL));
	TRY(fcntl(pipes[1], F_GETFL));
	TRY(fcntl(pipes[1], F_GETFD));
	TRY(fcntl(pipes[1], F_GETPIPE_SZ));
	TRY(read(pipes[0], block, 1));
	TRY(read(pipes[1], block, 1));
	TRY(write(pipes[0], block, 1));
	TRY(lseek(pipes[0], 0, SEEK_CUR));
	TRY(pread(pipes[0], block, 1, 0));
	TRY(ftruncate(pipes[1], 0));
	TRY(fsync(pipes[1]));
	TRY(write(pipes[1], block, 0));
	TRY(read(pipes[0], block, 0));
	full(pipes, 1);
	full(pipes, 100);
	full(pipes, 4096);
	full(pipes, 5000);
	full(pipes, 65536);
	full(pipes, 100000);
	TRY(write(pipes[1], "hello", 5));
	TRY(ioctl(pipes[0], FIONREAD, &waiting));
	printf("waiting %d\n", waiting);
	TRY(read(pipes[0], block, 2));
	TRY(read(pipes[0], block, 100));
	/* All or nothing up to PIPE_BUF, when there is not enough room. */
	fcntl(pipes[1], F_SETFL, O_NONBLOCK);
	TRY(write(pipes[1], block, 65536 - 1000));
	TRY(write(pipes[1], block, 4096));
	TRY(write(pipes[1], block, 5000) > 0 ? 1 : -1);
	while (read(pipes[0], block, sizeof block) > 0)
		;
	TRY(fcntl(pipes[1], F_SETPIPE_SZ, 4096));
	full(pipes, 1000);
	TRY(fcntl(pipes[1], F_SETPIPE_SZ, 5000));
	TRY(fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20));
	TRY(fcntl(pipes[1], F_SETPIPE_SZ, 2 << 20) > 0);

	/* The end of one side. */
	TRY(write(pipes[1], "rest", 4));
	close(pipes[1]);
	TRY(read(pipes[0], block, 100));
	TRY(read(pipes[0], block, 100));
	close(pipes[0]);
	TRY(pipe(pipes));
	close(pipes[0]);
	show_status("writes to nobody", CHILD(write(pipes[1], "x", 1)));
	signal(SIGPIPE, SIG_IGN);
	TRY(write(pipes[1], "x", 1));
	TRY(write(pipes[1], "x", 0));
	close(pipes[1]);

	/* A large write goes in parts, in order. */
	show_status("reader", CHILD(TRY(pipe(pipes)); pid_t writer = fork(); if (writer == 0) {
		for (size_t i = 0; i < sizeof block; i++)
			block[i] = (char)(i % 251);
		_exit(write(pipes[1], block, sizeof block) == sizeof block ? 0 : 1);
	} long got = 0, wrong = 0, count; char small[777]; close(pipes[1]);
	while ((count = read(pipes[0], small, sizeof small)) > 0) for (int i = 0; i < count; i++, got++)
		wrong += small[i] != (char)(got % 251);
	printf("got %ld wrong %ld\n", got, wrong); int status; waitpid(writer, &status, 0);
	show_status("writer", status)));

	/* Small writes of several writers do not mix. */
	show_status("writers", CHILD(pipe(pipes); for (int w = 0; w < 4; w++) if (fork() == 0) {
		memset(block, 'a' + w, 3000);
		for (int i = 0; i < 20; i++)
			write(pipes[1], block, 3000);
		_exit(0);
	} close(pipes[1]); int mixed = 0; char piece[3000]; long total = 0;
	for (;;) {
		size_t have = 0;
		long count;
		while (have < sizeof piece && (count = read(pipes[0], piece + have, sizeof piece - have)) > 0)
			have += count;
		total += have;
		if (have < sizeof piece)
			break;
		for (size_t i = 1; i < have; i++)
			mixed += piece[i] != piece[0];
	} printf("total %ld mixed %d\n", total, mixed)));
	return 0;
}
