/* How a session comes by its controlling terminal, and how it loses it: TIOCSCTTY, open(2), TIOCNOTTY. */
#include "twin.h"
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <termios.h>

static const char *slave_name;

/* Whether this process has a controlling terminal, and whose it is. */
static void show_terminal(int terminal)
{
	int own = open("/dev/tty", O_RDWR);

	printf("  /dev/tty %s", own < 0 ? strerrorname_np(errno) : "is there");
	errno = 0;
	pid_t session = tcgetsid(terminal);
	printf(", session %s", session < 0 ? strerrorname_np(errno) : session == getsid(0) ? "ours" : "another's");
	errno = 0;
	pid_t group = tcgetpgrp(terminal);
	printf(", foreground %s\n", group < 0 ? strerrorname_np(errno) : group == getpgrp() ? "ours" : "another's");
	if (own >= 0)
		close(own);
}

static void came(int number)
{
	printf("  %s comes\n", signal_name(number));
}

static void leader(int slave)
{
	show_terminal(slave);
	TRY(ioctl(slave, TIOCSCTTY, 0));
	/* A session is made for one. */
	TRY(setsid() > 0);
	show_terminal(slave);
	TRY(ioctl(slave, TIOCSCTTY, 0));
	show_terminal(slave);
	TRY(ioctl(slave, TIOCSCTTY, 0));
	show_status("a child, which is no leader", CHILD(show_terminal(slave); TRY(ioctl(slave, TIOCSCTTY, 0))));
	show_status("another session", CHILD(setsid(); show_terminal(slave); TRY(ioctl(slave, TIOCSCTTY, 0));
					     int again = open(slave_name, O_RDWR); show_terminal(again)));
	show_status("another user's", CHILD(setsid(); setuid(1000); TRY(ioctl(slave, TIOCSCTTY, 1)); show_terminal(slave)));
	signal(SIGHUP, came);
	signal(SIGCONT, came);
	TRY(ioctl(slave, TIOCNOTTY, 0));
	show_terminal(slave);
	TRY(ioctl(slave, TIOCNOTTY, 0));
	TRY(open(slave_name, O_RDWR | O_NOCTTY) >= 0);
	show_terminal(slave);
	/* A leader without one takes what it opens. */
	TRY(open(slave_name, O_RDWR) >= 0);
	show_terminal(slave);
	show_status("stolen", CHILD(setsid(); TRY(ioctl(slave, TIOCSCTTY, 1)); show_terminal(slave)));
	show_terminal(slave);
}

/* The file system that is mounted there, by its name. */
static void show_mount(const char *place)
{
	char where[256], kind[256], last[256] = "nothing";
	FILE *mounts = fopen("/proc/self/mounts", "r");

	while (mounts && fscanf(mounts, "%*s %255s %255s %*[^\n]", where, kind) == 2)
		if (strcmp(where, place) == 0)
			strcpy(last, kind);
	fclose(mounts);
	printf("%s on %s\n", last, place);
}

int main(void)
{
	struct statfs system;
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

	signal(SIGTTOU, SIG_IGN);
	TRY(unlockpt(master));
	slave_name = ptsname(master);
	slave = open(slave_name, O_RDWR | O_NOCTTY);
	TRY(fstatfs(slave, &system));
	printf("kind %#lx\n", (long)system.f_type);
	show_mount("/dev/pts");
	/* In a session of its own, whatever terminal this one has. */
	show_status("all", CHILD(setsid(); show_status("leader", CHILD(leader(slave))); show_terminal(slave)));
	return 0;
}
