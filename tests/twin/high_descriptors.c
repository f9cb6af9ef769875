/* Descriptors to the very end of RLIMIT_NOFILE: a table of a million entries, of which few are used. */
#include "twin.h"

int main(void)
{
	struct rlimit limit = {1 << 20, 1 << 20};

	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	TRY(dup2(0, (1 << 20) - 1));
	TRY(fcntl((1 << 20) - 1, F_GETFD));
	TRY(dup2(0, 1 << 20));
	TRY(fcntl(0, F_DUPFD, 1 << 19));
	TRY(fcntl(0, F_DUPFD, (1 << 20) - 1));
	TRY(fcntl(0, F_DUPFD_CLOEXEC, (1 << 20) - 2));
	/* A child has the same table, and its own. */
	show_status("child", CHILD(
		TRY(close((1 << 20) - 1));
		TRY(fcntl((1 << 20) - 1, F_GETFD));
		TRY(fcntl(1 << 19, F_GETFD))));
	TRY(fcntl((1 << 20) - 1, F_GETFD));
	TRY(close((1 << 20) - 1));
	TRY(dup(0));
	TRY(syscall(SYS_close_range, 3, ~0u, 0));
	TRY(fcntl(1 << 19, F_GETFD));
	limit.rlim_cur = 10;
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	TRY(dup2(0, 10));
	TRY(dup2(0, 9));
	return 0;
}
