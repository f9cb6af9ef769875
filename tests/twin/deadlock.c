/* Processes that wait for each other's record locks in a circle: the one that closes it is told, if they are not too many. */
#include "twin.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 20 };

static int file;

static int lock(int command, off_t at)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
	return fcntl(file, command, &lock);
}

static void alarmed(int signal) { (void)signal; }

/* Member `index` holds lock `index` and waits for the next; we are the last, and close the circle. */
static void circle(int members)
{
	pid_t pids[MOST];
	int ready[2], go[2];
	pipe(ready);
	pipe(go);
	lock(F_SETLK, members - 1);
	for (int index = 0; index < members - 1; index++) {
		pids[index] = fork();
		if (pids[index] == 0) {
			lock(F_SETLK, index);
			char byte;
			write(ready[1], "x", 1);
			read(go[0], &byte, 1);
			lock(F_SETLKW, index + 1);
			_exit(0);
		}
	}
	char byte;
	for (int index = 0; index < members - 1; index++)
		read(ready[0], &byte, 1);
	/* Each has its lock, and begins to wait; that it does shows only in time. */
	for (int index = 0; index < members - 1; index++)
		write(go[1], "x", 1);
	usleep(300000);
	struct sigaction action = {.sa_handler = alarmed};
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	errno = 0;
	int result = lock(F_SETLKW, 0);
	int error = errno;
	alarm(0);
	printf("%d in a circle: %d %s\n", members, result, result < 0 ? (error == EDEADLK ? "EDEADLK" : error == EINTR ? "EINTR" : "?") : "");
	for (int index = 0; index < members - 1; index++) {
		kill(pids[index], SIGKILL);
		waitpid(pids[index], NULL, 0);
	}
	close(ready[0]), close(ready[1]), close(go[0]), close(go[1]);
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	fcntl(file, F_SETLK, &all);
}

int main(void)
{
	file = open("/tmp/deadlock", O_RDWR | O_CREAT, 0600);
	for (int members = 2; members <= 4; members++)
		circle(members);
	for (int members = 10; members <= 15; members++)
		circle(members);
	unlink("/tmp/deadlock");
	return 0;
}
