/* dup(2), dup3(2), fcntl(2), close_range(2), close-on-exec: numbers and flags of descriptors. */
#include "twin.h"

int main(int argc, char **argv)
{
	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			printf("  %s: %s\n", argv[i], fcntl(atoi(argv[i]), F_GETFD) < 0 ? "closed" : "open");
		return 0;
	}
	enter_folder("descriptors");
	int file = TRY(open("/dev/null", O_RDWR));
	TRY(dup(file));
	TRY(dup(99));
	TRY(dup2(file, 10));
	TRY(dup2(file, file));
	TRY(dup2(99, 10));
	TRY(dup2(99, 99));
	TRY(dup2(file, -1));
	TRY(dup2(file, 1 << 30));
	TRY(dup3(file, 11, O_CLOEXEC));
	TRY(dup3(file, file, 0));
	TRY(dup3(file, 12, 1));
	TRY(fcntl(11, F_GETFD));
	TRY(fcntl(10, F_GETFD));
	TRY(fcntl(10, F_SETFD, FD_CLOEXEC));
	TRY(fcntl(10, F_GETFD));
	TRY(fcntl(10, F_SETFD, 2));
	TRY(fcntl(10, F_GETFD));
	TRY(fcntl(file, F_DUPFD, 20));
	TRY(fcntl(file, F_DUPFD, 20));
	TRY(fcntl(file, F_DUPFD_CLOEXEC, 5));
	TRY(fcntl(file, F_DUPFD, -1));
	TRY(fcntl(file, F_DUPFD, 1 << 30));
	TRY(fcntl(file, 9999, 0));
	TRY(fcntl(99, F_GETFD));
	TRY(fcntl(file, F_SETFL, O_APPEND | O_NONBLOCK | O_CREAT | O_WRONLY));
	TRY(fcntl(file, F_GETFL));
	TRY(fcntl(10, F_GETFL));
	show_status("exec", CHILD(dup3(1, 30, O_CLOEXEC);
				  execl("/proc/self/exe", "twin", "0", "1", "3", "4", "10", "11", "20", "21", "5", "30", NULL)));
	TRY(syscall(SYS_close_range, 20, 21, 0));
	TRY(fcntl(20, F_GETFD));
	TRY(syscall(SYS_close_range, 5, 4, 0));
	TRY(syscall(SYS_close_range, 10, 11, 4));
	TRY(syscall(SYS_close_range, 3, 4, 8));
	show_status("a child's close is its own", CHILD(close(file)));
	TRY(fcntl(file, F_GETFD));
	/* The lowest free number is taken. */
	close(3);
	TRY(open("/dev/null", O_RDONLY));
	struct rlimit limit = {8, 8};
	setrlimit(RLIMIT_NOFILE, &limit);
	TRY(fcntl(file, F_DUPFD, 8));
	TRY(dup2(file, 8));
	TRY(dup2(file, 7));
	while (dup(file) >= 0)
		;
	printf("then %s\n", strerrorname_np(errno));
	int pipes[2];
	TRY(pipe(pipes));
	TRY(close(7));
	TRY(pipe(pipes));
	/* Locks of whole files are refused or given by owner. */
	struct flock lock = {.l_type = F_WRLCK};
	TRY(fcntl(file, F_SETLK, &lock) == 0 || 1);
	return 0;
}
