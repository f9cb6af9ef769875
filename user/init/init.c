/*
 * /init, the guest's first program: prepares it, runs the session on the console, buries orphans, and ends with the
 * session's exit status, which switches the machine off.
 *
 * The session is /etc/session, a script written by whoever made the initramfs, or else a login shell. halt(8), poweroff(8)
 * and reboot(8) send SIGUSR1, SIGUSR2 and SIGTERM.
 *
 * It does without a C library, whose own start would cost more than all that is done here: the way to the prompt is short.
 */
#include <fcntl.h>
#include <linux/signal.h>
#include <linux/wait.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

#define TIOCSCTTY 0x540e

/* call(number, up to five arguments): the result, or an error as its negative number. */
#define call(...) call_padded(__VA_ARGS__, 0, 0, 0, 0, 0)
#define call_padded(number, a, b, c, d, e, ...) \
	system_call(SYS_##number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static inline long system_call(long number, long a, long b, long c, long d, long e)
{
	register long fourth __asm__("r10") = d, fifth __asm__("r8") = e;

	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth) : "rcx", "r11", "memory");
	return number;
}

/* The environment of the session: what the kernel gave us, but for what is set here. */
static const char *environment[64] = { "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "USER=root", "LOGNAME=root" };

/* Do two assignments name the same variable? */
static int same_name(const char *left, const char *right)
{
	for (; *left == *right; left++, right++)
		if (*left == '=')
			return 1;
	return 0;
}

static void inherit(const char **given)
{
	const char **own, **end = environment + sizeof environment / sizeof *environment - 1;

	for (; *given; given++) {
		for (own = environment; *own && !same_name(*own, *given); own++)
			;
		if (!*own && own < end)
			*own = *given;
	}
}

static void prepare(void)
{
	call(mount, "proc", "/proc", "proc", 0, 0);
	call(mount, "devtmpfs", "/dev", "devtmpfs", 0, 0);
	call(mkdir, "/dev/pts", 0755);
	call(mount, "devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620");
	call(chdir, "/root");
}

/* Becomes the session: the leader of a new one, with the console as its terminal, so that Ctrl-C and job control work. */
static void become_session(void)
{
	static const char *script[] = { "/etc/session", 0 }, *shell[] = { "/bin/sh", "-l", 0 };
	static const char complaint[] = "init: neither /etc/session nor /bin/sh can be executed\n";
	static const unsigned long none;

	call(setsid);
	/* On Linux /dev/console can't be anybody's controlling terminal. */
	long console = call(open, "/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (console < 0)
		console = call(open, "/dev/console", O_RDWR | O_NOCTTY);
	call(ioctl, console, TIOCSCTTY, 0);
	for (int descriptor = 0; descriptor < 3; descriptor++)
		call(dup2, console, descriptor);
	if (console > 2)
		call(close, console);
	call(rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
	call(execve, script[0], script, environment);
	call(execve, shell[0], shell, environment);
	call(write, 2, complaint, sizeof complaint - 1);
	call(exit, 127);
}

/* Buries the children that are dead. Returns the exit status of the session if it is among them, as a shell shows it, else -1. */
static int bury(long session)
{
	int status, result = -1;
	long ended;

	while ((ended = call(wait4, -1, &status, WNOHANG, 0)) > 0)
		if (ended == session)
			result = status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
	return result;
}

static void switch_off(unsigned how)
{
	call(sync);
	call(reboot, 0xfee1dead, 672274793, how, 0);
}

/* The end. Linux cannot tell QEMU a status: there the initramfs has a program that can. */
static void finish(int status)
{
	char number[] = { '0' + status / 100, '0' + status / 10 % 10, '0' + status % 10, 0 };
	const char *arguments[] = { "/sbin/finish", number, 0 };

	call(execve, arguments[0], arguments, environment);
	call(exit, status);
}

/* The kernel starts a program with the number of arguments, the arguments and the environment on the stack. */
__attribute__((used)) static void start(long *stack)
{
	const unsigned long handled =
		1UL << (SIGCHLD - 1) | 1UL << (SIGUSR1 - 1) | 1UL << (SIGUSR2 - 1) | 1UL << (SIGTERM - 1);
	int status = -1;

	inherit((const char **)stack + 1 + stack[0] + 1);
	prepare();
	call(rt_sigprocmask, SIG_BLOCK, &handled, 0, sizeof handled);
	long session = call(fork);
	if (session == 0)
		become_session();
	while (status < 0) {
		switch (call(rt_sigtimedwait, &handled, 0, 0, sizeof handled)) {
		case SIGCHLD:
			status = bury(session);
			break;
		case SIGUSR1:
			switch_off(RB_HALT_SYSTEM);
			break;
		case SIGUSR2:
			switch_off(RB_POWER_OFF);
			break;
		case SIGTERM:
			switch_off(RB_AUTOBOOT);
			break;
		}
	}
	finish(status);
}

__asm__(".global _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
