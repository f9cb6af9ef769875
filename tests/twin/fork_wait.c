/* fork(2), wait4(2), waitid(2): what a parent learns of its children. */
#include "twin.h"

int main(void)
{
	int status;
	struct rusage usage;

	TRY(wait(&status));
	TRY(waitpid(-1, &status, WNOHANG));
	TRY(waitpid(getpid(), &status, 0));
	TRY(waitpid(-getpgrp() - 1000000, &status, 0));
	TRY(waitpid(INT_MIN, &status, 0));
	TRY(waitpid(-1, &status, 0x40));
	for (int code = 0; code < 1000; code += 137)
		show_status("exit", CHILD(_exit(code)));
	show_status("abort", CHILD(abort()));
	show_status("raise KILL", CHILD(raise(SIGKILL)));
	show_status("raise TERM", CHILD(raise(SIGTERM)));
	show_status("ignored CHLD", CHILD(raise(SIGCHLD)));

	/* Memory and descriptors of a child are its own, file offsets shared. */
	int value = 1, pipes[2];
	TRY(pipe(pipes));
	show_status("child writes", CHILD(value = 2; TRY(write(pipes[1], &value, sizeof value)); close(pipes[1])));
	printf("value %d\n", value);
	TRY(read(pipes[0], &value, sizeof value));
	printf("value %d\n", value);

	/* WNOHANG says 0 while the child lives. */
	pid_t child = fork();
	if (child == 0) {
		read(pipes[0], &value, 1);
		_exit(5);
	}
	TRY(waitpid(child, &status, WNOHANG));
	TRY(write(pipes[1], "x", 1));
	IS(waitpid(child, &status, 0) == child);
	show_status("released", status);
	TRY(waitpid(child, &status, 0));

	/* waitid fills in siginfo; WNOWAIT leaves the zombie. */
	child = fork();
	if (child == 0)
		_exit(42);
	for (int round = 0; round < 2; round++) {
		siginfo_t info = {0};
		TRY(waitid(P_PID, child, &info, WEXITED | (round ? 0 : WNOWAIT)));
		printf("code %d status %d signal %s\n", info.si_code, info.si_status, signal_name(info.si_signo));
		IS(info.si_pid == child);
	}
	TRY(waitid(P_PID, child, NULL, WEXITED));
	TRY(waitid(P_ALL, 0, NULL, 0));
	TRY(waitid(99, 0, NULL, WEXITED));

	/* Several children are reaped each once. */
	int sum = 0, count = 0;
	for (int i = 1; i <= 10; i++)
		if (fork() == 0)
			_exit(i);
	while (wait4(-1, &status, 0, &usage) > 0) {
		sum += WEXITSTATUS(status);
		count++;
	}
	printf("%d children, sum %d\n", count, sum);
	/* With SIGCHLD ignored children vanish by themselves. */
	signal(SIGCHLD, SIG_IGN);
	child = fork();
	if (child == 0)
		_exit(1);
	TRY(waitpid(child, &status, 0));
	return 0;
}
