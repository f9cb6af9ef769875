/* fcntl(2), "Managing signals": F_SETOWN, F_SETSIG, O_ASYNC: files that tell by a signal that they became ready. */
#include "twin.h"
#include <sys/ioctl.h>

static volatile sig_atomic_t count, last_code, last_band, last_file, last_signal;

static void note(int signal, siginfo_t *info, void *context)
{
	(void)context;
	count++;
	last_signal = signal;
	last_code = info->si_code;
	last_band = info->si_code == SI_KERNEL ? 0 : info->si_band;
	last_file = info->si_code == SI_KERNEL ? 0 : info->si_fd;
}

static void show(const char *what)
{
	printf("%s: %d signals", what, (int)count);
	if (count)
		printf(", last %s code %d band %#x file %d", last_signal == SIGIO ? "SIGIO" : last_signal == SIGRTMIN ? "SIGRTMIN" : "other",
		       (int)last_code, (unsigned)last_band, (int)last_file);
	printf("\n");
	count = 0;
}

static void pipes(void)
{
	int ends[2];
	char bytes[8];
	TRY(pipe(ends));
	TRY(fcntl(ends[0], F_GETOWN));
	IS(fcntl(ends[0], F_GETFL) & O_ASYNC);
	TRY(fcntl(ends[0], F_SETFL, O_ASYNC));
	IS((fcntl(ends[0], F_GETFL) & O_ASYNC) != 0);
	TRY(write(ends[1], "a", 1));
	show("no owner");
	TRY(fcntl(ends[0], F_SETOWN, getpid()));
	IS(fcntl(ends[0], F_GETOWN) == getpid());
	TRY(write(ends[1], "b", 1));
	show("not the first byte");
	TRY(read(ends[0], bytes, 8));
	show("read");
	TRY(write(ends[1], "c", 1));
	TRY(write(ends[1], "d", 1));
	show("two writes");
	TRY(fcntl(ends[0], F_SETSIG, SIGRTMIN));
	IS(fcntl(ends[0], F_GETSIG) == SIGRTMIN);
	TRY(write(ends[1], "e", 1));
	show("real-time");
	TRY(fcntl(ends[0], F_SETSIG, SIGCHLD));
	TRY(write(ends[1], "e", 1));
	show("a signal with reasons of its own");
	TRY(fcntl(ends[0], F_SETSIG, SIGIO));
	TRY(write(ends[1], "e", 1));
	show("SIGIO by name");
	TRY(fcntl(ends[0], F_SETSIG, 65));
	TRY(fcntl(ends[0], F_SETSIG, -1));
	TRY(fcntl(ends[1], F_SETOWN, getpid()));
	TRY(fcntl(ends[1], F_SETSIG, SIGRTMIN));
	int on = 1;
	TRY(ioctl(ends[1], FIOASYNC, &on));
	TRY(read(ends[0], bytes, 8));
	show("room to write");
	int copy = TRY(dup(ends[1]));
	TRY(fcntl(copy, F_SETFL, O_ASYNC));
	TRY(write(ends[1], "f", 1));
	TRY(read(ends[0], bytes, 8));
	show("the first descriptor is told of");
	on = 0;
	TRY(ioctl(ends[0], FIOASYNC, &on));
	IS(fcntl(ends[0], F_GETFL) & O_ASYNC);
	TRY(write(ends[1], "g", 1));
	show("off");
	close(ends[0]);
	show("nobody reads");
	close(copy);
	close(ends[1]);
	TRY(pipe(ends));
	TRY(fcntl(ends[0], F_SETOWN, getpid()));
	TRY(fcntl(ends[0], F_SETFL, O_ASYNC));
	close(ends[1]);
	show("nobody writes");
	close(ends[0]);
}

static void owners(void)
{
	int ends[2];
	pipe(ends);
	TRY(fcntl(ends[0], F_SETOWN, 4194303));
	TRY(fcntl(ends[0], F_SETOWN, -4194303));
	TRY(fcntl(ends[0], F_SETOWN, INT_MIN));
	TRY(fcntl(ends[0], F_SETOWN, 0));
	TRY(fcntl(ends[0], F_SETOWN, -getpgrp()));
	struct f_owner_ex owner = { 7, getpid() };
	TRY(fcntl(ends[0], F_SETOWN_EX, &owner));
	owner = (struct f_owner_ex){ F_OWNER_TID, -5 };
	TRY(fcntl(ends[0], F_SETOWN_EX, &owner));
	TRY(fcntl(ends[0], F_SETOWN_EX, (void *)8));
	TRY(fcntl(ends[0], F_GETOWN_EX, (void *)8));
	TRY(fcntl(ends[0], F_GETOWN_EX, &owner));
	IS(owner.type == F_OWNER_PGRP && owner.pid == getpgrp());
	IS(syscall(SYS_fcntl, ends[0], F_GETOWN) == -getpgrp());
	owner = (struct f_owner_ex){ F_OWNER_TID, getpid() };
	TRY(fcntl(ends[0], F_SETOWN_EX, &owner));
	TRY(fcntl(ends[0], F_SETFL, O_ASYNC));
	TRY(write(ends[1], "a", 1));
	show("a thread");

	/* Who owned it is gone: nobody is told, whoever has the number next. */
	pid_t child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	TRY(fcntl(ends[0], F_SETOWN, child));
	IS(fcntl(ends[0], F_GETOWN) == child);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	TRY(fcntl(ends[0], F_GETOWN));
	TRY(write(ends[1], "a", 1));
	show("gone");

	/* A signal that ends its process. */
	child = fork();
	if (!child) {
		signal(SIGIO, SIG_DFL);
		fcntl(ends[0], F_SETOWN, getpid());
		fcntl(ends[0], F_SETSIG, 0);
		for (;;)
			write(ends[1], "b", 1), read(ends[0], &(char){ 0 }, 1);
	}
	int status;
	waitpid(child, &status, 0);
	printf("the child got signal %d\n", WTERMSIG(status) == SIGIO);

	/* Rights are those of who named the owner. */
	if (geteuid() == 0) {
		child = fork();
		if (!child) {
			setresuid(1234, 1234, 1234);
			_exit(fcntl(ends[0], F_SETOWN, getppid()) != 0);
		}
		waitpid(child, &status, 0);
		TRY(write(ends[1], "a", 1));
		printf("status %d, another user: %d signals\n", status, (int)count);
		count = 0;
	} else {
		printf("status 0, another user: 0 signals\n");
	}
	close(ends[0]);
	close(ends[1]);
}

static void others(void)
{
	int file = TRY(open("/dev/null", O_RDWR));
	TRY(fcntl(file, F_SETFL, O_ASYNC));
	IS(fcntl(file, F_GETFL) & O_ASYNC);
	int on = 1;
	TRY(ioctl(file, FIOASYNC, &on));
	on = 0;
	TRY(ioctl(file, FIOASYNC, &on));
	TRY(ioctl(file, FIOASYNC, (void *)8));
	TRY(fcntl(file, F_SETOWN, getpid()));
	close(file);
	file = TRY(open("/dev/null", O_PATH));
	TRY(fcntl(file, F_GETOWN));
	TRY(fcntl(file, F_SETSIG, 0));
	close(file);
}

static void fifos(void)
{
	TRY(mkfifo("fifo", 0600));
	int reader = TRY(open("fifo", O_RDONLY | O_NONBLOCK));
	TRY(fcntl(reader, F_SETOWN, getpid()));
	TRY(fcntl(reader, F_SETFL, O_ASYNC | O_NONBLOCK));
	int writer = TRY(open("fifo", O_WRONLY));
	show("somebody came to write");
	TRY(write(writer, "a", 1));
	show("a byte");
	close(writer);
	show("the writer went");
	close(reader);
	unlink("fifo");
}

static void terminals(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	grantpt(master);
	unlockpt(master);
	int slave = TRY(open(ptsname(master), O_RDWR | O_NOCTTY)) ;
	TRY(fcntl(slave, F_SETSIG, SIGRTMIN));
	TRY(fcntl(slave, F_SETFL, O_ASYNC));
	IS(fcntl(slave, F_GETOWN) == getpid());
	TRY(write(master, "ab", 2));
	usleep(20000);
	show("half a line");
	TRY(write(master, "c\n", 2));
	usleep(20000);
	show("a line");
	TRY(write(slave, "out", 3));
	usleep(20000);
	show("output");
	TRY(fcntl(master, F_SETSIG, SIGRTMIN));
	TRY(fcntl(master, F_SETFL, O_ASYNC | O_NONBLOCK));
	fcntl(slave, F_SETFL, 0);
	TRY(write(slave, "x", 1));
	usleep(20000);
	show("at the master");
	close(slave);
	close(master);
}

int main(void)
{
	enter_folder("signal_io");
	struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(SIGIO, &action, NULL);
	sigaction(SIGRTMIN, &action, NULL);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
	struct sigaction child = action;
	sigaction(SIGCHLD, &child, NULL);
	pipes();
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
	owners();
	others();
	fifos();
	terminals();
	return 0;
}
