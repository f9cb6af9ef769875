/*
 * /init, the guest's first program: prepares it, runs the session (/etc/session, written by whoever made the initramfs)
 * on the console, buries orphans, and ends with the session's exit status, which switches the machine off.
 *
 * poweroff(8) and reboot(8) send SIGUSR2 and SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void switch_off(int number)
{
	sync();
	reboot(number == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
}

/* The console as a terminal that can be someone's controlling terminal. On Linux /dev/console cannot. */
static int open_console(void)
{
	int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);

	return console >= 0 ? console : open("/dev/console", O_RDWR | O_NOCTTY);
}

/* Becomes the session: the leader of a new one, with the console as its terminal, so that Ctrl-C and job control work. */
static void become_session(void)
{
	setsid();
	int console = open_console();
	if (console < 0)
		_exit(126);
	ioctl(console, TIOCSCTTY, 0);
	for (int descriptor = 0; descriptor < 3; descriptor++)
		dup2(console, descriptor);
	if (console > 2)
		close(console);
	signal(SIGUSR2, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	execl("/etc/session", "/etc/session", NULL);
	fprintf(stderr, "init: /etc/session: %s\n", strerror(errno));
	_exit(127);
}

int main(void)
{
	int status = 0;
	struct stat there;

	if (stat("/proc/self", &there))
		mount("proc", "/proc", "proc", 0, NULL);
	if (stat("/dev/null", &there) || !S_ISCHR(there.st_mode))
		mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mkdir("/dev/pts", 0755);
	mount("devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620");
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/root", 1);
	setenv("USER", "root", 1);
	setenv("LOGNAME", "root", 1);
	setenv("TERM", "linux", 0);
	if (chdir("/root"))
		chdir("/");
	signal(SIGUSR2, switch_off);
	signal(SIGTERM, switch_off);

	pid_t session = fork(), ended;
	if (session == 0)
		become_session();
	while ((ended = wait(&status)) != session)
		if (ended < 0 && errno != EINTR)
			break;
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);

	/* Linux cannot end QEMU with a status: there the initramfs has a program that can. */
	char number[12];
	snprintf(number, sizeof number, "%d", status);
	execl("/sbin/finish", "finish", number, NULL);
	return status;
}
