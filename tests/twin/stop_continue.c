/* SIGSTOP, SIGTSTP, SIGCONT, and what wait reports of them. */
#include "twin.h"

static int status, pipes[2];

static void seen(int number)
{
	(void)number;
	write(pipes[1], "c", 1);
}

int main(void)
{
	char byte;
	siginfo_t info = {0};

	TRY(pipe(pipes));
	pid_t child = fork();
	if (child == 0) {
		signal(SIGCONT, seen);
		for (;;)
			pause();
	}
	sleep_ms(50);
	TRY(kill(child, SIGSTOP));
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("stopped", status);
	TRY(waitpid(child, &status, WUNTRACED | WNOHANG));
	/* Signals wait while stopped; KILL and CONT do not. */
	TRY(kill(child, SIGSTOP));
	TRY(waitpid(child, &status, WUNTRACED | WNOHANG));
	TRY(kill(child, SIGCONT));
	IS(waitpid(child, &status, WCONTINUED) == child);
	show_status("continued", status);
	TRY(read(pipes[0], &byte, 1));
	TRY(waitpid(child, &status, WCONTINUED | WNOHANG));
	/* The terminal's stop signals have no effect on an orphaned group, but this one has us. */
	TRY(kill(child, SIGSTOP));
	TRY(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
	printf("code %d status %s\n", info.si_code, signal_name(info.si_status));
	TRY(waitid(P_PID, child, &info, WSTOPPED));
	TRY(kill(child, SIGTERM));
	TRY(waitpid(child, &status, WNOHANG));
	TRY(kill(child, SIGCONT));
	IS(waitpid(child, &status, 0) == child);
	show_status("TERM came with CONT", status);

	/* KILL reaches a stopped process. */
	child = fork();
	if (child == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	IS(waitpid(child, &status, WUNTRACED) == child);
	TRY(kill(child, SIGKILL));
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("killed while stopped", status);

	/* CONT discards pending stops, stop discards a pending CONT. */
	child = fork();
	if (child == 0) {
		sigset_t set, pending;
		sigfillset(&set);
		sigprocmask(SIG_SETMASK, &set, NULL);
		raise(SIGTSTP);
		sigpending(&pending);
		printf("TSTP pending %d\n", sigismember(&pending, SIGTSTP));
		raise(SIGCONT);
		sigpending(&pending);
		printf("TSTP pending %d, CONT pending %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
		raise(SIGTTIN);
		sigpending(&pending);
		printf("TTIN pending %d, CONT pending %d\n", sigismember(&pending, SIGTTIN), sigismember(&pending, SIGCONT));
		_exit(0);
	}
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("blocked stops", status);
	/* A handler of TSTP runs instead of a stop; ignored means nothing. */
	show_status("TSTP handled", CHILD(signal(SIGTSTP, seen); raise(SIGTSTP); read(pipes[0], &byte, 1)));
	show_status("TSTP ignored", CHILD(signal(SIGTSTP, SIG_IGN); raise(SIGTSTP)));
	/* SA_NOCLDSTOP: no SIGCHLD for stops. */
	for (int flags = 0; flags <= SA_NOCLDSTOP; flags += SA_NOCLDSTOP) {
		struct sigaction action = {.sa_handler = seen, .sa_flags = flags | SA_RESTART};
		sigaction(SIGCHLD, &action, NULL);
		child = fork();
		if (child == 0) {
			raise(SIGSTOP);
			_exit(0);
		}
		waitpid(child, &status, WUNTRACED);
		sleep_ms(50);
		fcntl(pipes[0], F_SETFL, O_NONBLOCK);
		TRY(read(pipes[0], &byte, 1));
		kill(child, SIGCONT);
		while (waitpid(child, &status, 0) < 0)
			;
		while (read(pipes[0], &byte, 1) == 1)
			;
	}
	return 0;
}
