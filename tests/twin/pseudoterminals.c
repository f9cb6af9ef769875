/*
 * Pseudoterminals: slaves belong to whoever opened the master, with the group and permissions the mount says; and nobody
 * waits on a slave for its master to read.
 */
#include "twin.h"
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master(char *name, int size)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY);

	if (fd < 0 || grantpt(fd) || unlockpt(fd) || ptsname_r(fd, name, size))
		printf("no pseudoterminal: %s\n", strerrorname_np(errno));
	return fd;
}

static void show(const char *what, const char *name)
{
	struct stat status;

	if (stat(name, &status))
		printf("%s: %s\n", what, strerrorname_np(errno));
	else
		printf("%s: %d:%d %o\n", what, status.st_uid, status.st_gid, status.st_mode);
}

static void *as_another_user(void *unused)
{
	char name[64];

	syscall(SYS_setresgid, 1003, 1003, 1003);
	syscall(SYS_setresuid, 1002, 1002, 1002);
	int fd = master(name, sizeof name);
	show("a thread's", name);
	YES(open(name, O_RDWR | O_NOCTTY));
	close(fd);
	return unused;
}

static void owners(void)
{
	char name[64];

	int fd = master(name, sizeof name);
	show("root's", name);
	show_status("another user", CHILD(setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000);
					  TRY(open(name, O_RDWR | O_NOCTTY)); TRY(chmod(name, 0666)); TRY(chown(name, 1000, 1000))));
	close(fd);
	show_status("a user", CHILD(setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); master(name, sizeof name);
				    show("his", name); YES(open(name, O_RDWR | O_NOCTTY)); TRY(chmod(name, 0600)); show("closed", name);
				    TRY(chown(name, 0, 0)); TRY(chmod(name, 0)); TRY(open(name, O_RDWR | O_NOCTTY))));
	show_status("effective", CHILD(setegid(1001); seteuid(1000); master(name, sizeof name); show("the effective user's", name)));
	show_status("file system", CHILD(setfsgid(1001); setfsuid(1004); master(name, sizeof name); show("the file user's", name)));
	pthread_t thread;
	pthread_create(&thread, NULL, as_another_user, NULL);
	pthread_join(thread, NULL);
	show("ptmx", "/dev/ptmx");
	show("the directory", "/dev/pts");
	TRY(open("/dev/pts/4095", O_RDWR | O_NOCTTY));
}

static void nobody_waits(void)
{
	char name[64];
	int fd = master(name, sizeof name), waiting;
	int slave = open(name, O_RDWR | O_NOCTTY);
	struct termios settings;

	alarm(20);
	TRY(tcgetattr(slave, &settings));
	TRY(write(slave, "hi\n", 3));
	TRY(ioctl(slave, TIOCOUTQ, &waiting));
	printf("%d to be sent\n", waiting);
	TRY(tcdrain(slave));
	TRY(tcsetattr(slave, TCSADRAIN, &settings));
	TRY(write(fd, "typed\n", 6));
	TRY(tcsetattr(slave, TCSAFLUSH, &settings));
	TRY(ioctl(slave, TCSBRK, 0));
	TRY(tcsetattr(fd, TCSADRAIN, &settings));
	TRY(tcflow(slave, TCOOFF));
	TRY(tcdrain(slave));
	TRY(tcflow(slave, TCOON));
	TRY(ioctl(fd, TIOCOUTQ, &waiting));
	printf("%d on the master\n", waiting);
	show_status("close", CHILD(write(slave, "more\n", 5); close(slave)));
	fcntl(slave, F_SETFL, O_NONBLOCK);
	long written = 0, more;
	while ((more = write(slave, "0123456789abcdef", 16)) > 0)
		written += more;
	IS(written > 1000);
	TRY(tcdrain(slave));
	TRY(tcsetattr(slave, TCSADRAIN, &settings));
	alarm(0);
	close(slave);
	close(fd);
}

int main(void)
{
	owners();
	nobody_waits();
	return 0;
}
