/* vfork(2): the child borrows the parent's memory, and the parent waits until it is given back. */
#include "twin.h"

static volatile int shared;

int main(int argc, char **argv)
{
	int status;

	if (argc > 1)
		return atoi(argv[1]);
	pid_t child = vfork();
	if (child == 0) {
		shared = 7;
		_exit(3);
	}
	printf("shared %d after exit\n", shared);
	IS(waitpid(child, &status, 0) == child);
	show_status("vfork exit", status);

	child = vfork();
	if (child == 0) {
		shared = 8;
		execl("/proc/self/exe", "twin", "9", NULL);
		_exit(99);
	}
	printf("shared %d after exec\n", shared);
	IS(waitpid(child, &status, 0) == child);
	show_status("vfork exec", status);

	child = vfork();
	if (child == 0) {
		execl("/nowhere", "nowhere", NULL);
		shared = errno;
		_exit(1);
	}
	printf("failed exec: %s\n", strerrorname_np(shared));
	waitpid(child, &status, 0);
	show_status("vfork failed exec", status);

	child = vfork();
	if (child == 0)
		kill(getpid(), SIGKILL);
	waitpid(child, &status, 0);
	show_status("vfork killed", status);
	return 0;
}
