/* Process groups and sessions: setpgid(2), setsid(2), getsid(2), tcsetpgrp(3), and who may do what. */
#include "twin.h"

int main(void)
{
	int pipes[2], ready[2];
	char byte;

	TRY(pipe(pipes));
	TRY(pipe(ready));
	/* A session of our own, without a terminal, whoever started us. */
	show_status("in a session", CHILD(
		IS(setsid() == getpid());
		IS(getpgrp() == getpid() && getsid(0) == getpid());
		TRY(setsid());
		TRY(setpgid(0, 0));
		TRY(setpgid(0, 1000000));
		TRY(setpgid(-1, 0));
		TRY(setpgid(0, -1));
		TRY(setpgid(1000000, 0));
		TRY(getpgid(1000000));
		TRY(getsid(1000000));
		TRY(getpgid(-1));
		IS(getpgid(0) == getpgrp());
		TRY(open("/dev/tty", O_RDWR));

		pid_t child = fork();
		if (child == 0) {
			read(pipes[0], &byte, 1);
			_exit(getpgrp() == getpid() ? 0 : 1);
		}
		TRY(setpgid(child, child));
		IS(getpgid(child) == child);
		IS(getsid(child) == getpid());
		TRY(setpgid(child, getpgrp()));
		TRY(setpgid(child, child));

		/* A second child may join the first one's group. */
		pid_t second = fork();
		if (second == 0) {
			read(pipes[0], &byte, 1);
			_exit(getpgrp() == getppid() ? 1 : 0);
		}
		TRY(setpgid(second, child));
		IS(getpgid(second) == child);
		TRY(setpgid(second, 1000000));
		/* A third leaves for a session of its own, and is out of reach. */
		pid_t third = fork();
		if (third == 0) {
			setsid();
			write(ready[1], "s", 1);
			for (;;)
				pause();
		}
		read(ready[0], &byte, 1);
		TRY(setpgid(third, third));
		TRY(setpgid(third, child));
		IS(getsid(third) == third);
		TRY(kill(third, SIGKILL));
		IS(waitpid(third, NULL, 0) == third);
		TRY(getsid(third));

		/* A child that has started a program cannot be moved any more. */
		pid_t fourth = fork();
		if (fourth == 0) {
			execl("/bin/sh", "sh", "-c", "echo started; read line", NULL);
			_exit(1);
		}
		sleep_ms(300);
		TRY(setpgid(fourth, fourth));
		kill(fourth, SIGKILL);
		waitpid(fourth, NULL, 0);

		/* Signals and waits by group. */
		int status;
		TRY(kill(-child, 0));
		TRY(write(pipes[1], "ab", 2));
		IS(waitpid(-child, &status, 0) > 0);
		show_status("first of the group", status);
		IS(waitpid(-child, &status, 0) > 0);
		show_status("second of the group", status);
		TRY(waitpid(-child, &status, 0));
		TRY(kill(-child, 0));
		signal(SIGUSR1, SIG_IGN);
		TRY(kill(0, SIGUSR1));
	));
	/* A group leader cannot begin a session. */
	show_status("leader", CHILD(setpgid(0, 0); TRY(setsid())));
	return 0;
}
