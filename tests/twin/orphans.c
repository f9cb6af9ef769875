/* Orphans: their parent becomes process 1 or a subreaper, and stopped orphaned groups get HUP and CONT. */
#include "twin.h"
#include <sys/prctl.h>

static int pipes[2];

static void hangup(int number)
{
	const char *text = number == SIGHUP ? "H" : "C";

	write(pipes[1], text, 1);
}

int main(void)
{
	char text[8] = {0};
	int status;

	TRY(pipe(pipes));
	show_status("parent", CHILD(pid_t me = getpid(); if (fork() == 0) {
		while (getppid() == me)
			sleep_ms(5);
		snprintf(text, sizeof text, "%d", getppid());
		write(pipes[1], text, 1);
		_exit(0);
	}));
	TRY(read(pipes[0], text, 1));
	printf("new parent %s\n", text);

	/* A subreaper takes the place of process 1. */
	TRY(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	pid_t me = getpid();
	show_status("parent", CHILD(if (fork() == 0) {
		while (getppid() != me)
			sleep_ms(5);
		_exit(33);
	}));
	IS(wait(&status) > 0);
	show_status("adopted", status);
	TRY(wait(&status));
	TRY(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));

	/* The end of a session's leader leaves a stopped group without anyone to continue it. */
	show_status("leader", CHILD(
		setsid();
		pid_t child = fork();
		if (child == 0) {
			setpgid(0, 0);
			signal(SIGHUP, hangup);
			signal(SIGCONT, hangup);
			raise(SIGSTOP);
			sleep_ms(2000);
			_exit(0);
		}
		waitpid(child, &status, WUNTRACED);
		show_status("child", status);
	));
	char both[2] = {0};
	TRY(read(pipes[0], &both[0], 1));
	TRY(read(pipes[0], &both[1], 1));
	IS((both[0] == 'H' && both[1] == 'C') || (both[0] == 'C' && both[1] == 'H'));
	/* A parent's death signal. */
	show_status("parent of a watcher", CHILD(if (fork() == 0) {
		signal(SIGHUP, hangup);
		prctl(PR_SET_PDEATHSIG, SIGHUP);
		write(pipes[1], "r", 1);
		sleep_ms(2000);
		_exit(0);
	} read(pipes[0], text, 1)));
	TRY(read(pipes[0], text, 1));
	printf("death signal %c\n", text[0]);
	return 0;
}
