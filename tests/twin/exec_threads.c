/* A thread that is not the leader executes a program: it becomes the process, whatever the leader was doing. */
#include "twin.h"

#include <pthread.h>
#include <sched.h>

static char *self;
static int left, missing;

/* Whether the number of the process is that of its only thread, for everybody who asks. */
static int is_whole(void)
{
	char path[64];
	struct stat status;
	pid_t pid = getpid();

	snprintf(path, sizeof path, "/proc/%d/task/%d", pid, pid);
	return syscall(SYS_gettid) == pid && !syscall(SYS_tgkill, pid, pid, 0) && !stat(path, &status);
}

static void *executes(void *unused)
{
	char rest[16], bad[16];

	(void)unused;
	snprintf(rest, sizeof rest, "%d", left - 1);
	snprintf(bad, sizeof bad, "%d", missing);
	execv(self, (char *[]){self, rest, bad, NULL});
	printf("exec: %s\n", strerrorname_np(errno));
	_exit(9);
}

int main(int count, char **arguments)
{
	pthread_t thread;

	self = arguments[0];
	left = count > 1 ? atoi(arguments[1]) : 120;
	missing = count > 2 ? atoi(arguments[2]) : 0;
	/* The old leader may be on its way out still. */
	for (int i = 0; i < 3; i++)
		sched_yield();
	usleep(300);
	missing += !is_whole();
	if (left <= 0) {
		printf("missing %d\n", missing);
		IS(getpid() == syscall(SYS_gettid));
		return 7;
	}
	if (count == 1)
		show_status("in a child", CHILD(execv(self, (char *[]){self, "5", "0", NULL})));
	if (pthread_create(&thread, NULL, executes, NULL))
		puts("no thread");
	/* The leader sleeps, ends, or spins. */
	if (left % 3 == 0)
		pause();
	if (left % 3 == 1)
		pthread_exit(NULL);
	for (;;)
		sched_yield();
}
