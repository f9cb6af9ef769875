/*
 * /init, the guest's first program: prepares it, runs the session on the console, buries orphans, and ends with the
 * session's exit status, which switches the machine off.
 *
 * The session is /etc/session, a script written by whoever made the initramfs, or else a login shell. Where `orrery run`
 * brought this program, it is what /.orrery/session describes (see cli/src/vm.rs). halt(8), poweroff(8) and reboot(8) send
 * SIGUSR1, SIGUSR2 and SIGTERM.
 *
 * It does without a C library, whose own start would cost more than all that is done here: the way to the prompt is short.
 */
#include <asm/termbits.h>
#include <asm/errno.h>
#include <fcntl.h>
#include <linux/signal.h>
#include <linux/wait.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

#define TCGETS 0x5401
#define TCSETS 0x5402
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
	call(mkdir, "/proc", 0755);
	call(mkdir, "/dev", 0755);
	call(mount, "proc", "/proc", "proc", 0, 0);
	call(mount, "devtmpfs", "/dev", "devtmpfs", 0, 0);
	call(mkdir, "/dev/pts", 0755);
	call(mount, "devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620");
	call(chdir, "/root");
}

/* The description of a session: strings, each with its zero. */
static char description[1 << 20];

/* Steps over the string at *next. */
static char *take(char **next)
{
	char *string = *next;

	while (*(*next)++)
		;
	return string;
}

/* Lets every byte pass the console as it is: of output, of input. */
static void make_raw(int output, int input)
{
	struct termios terminal;

	call(ioctl, 0, TCGETS, &terminal);
	if (output)
		terminal.c_oflag &= ~ONLCR;
	if (input) {
		terminal.c_iflag &= ~(ICRNL | IXON);
		terminal.c_lflag &= ~(ECHO | ISIG);
	}
	call(ioctl, 0, TCSETS, &terminal);
}

/*
 * Becomes the program that is described: flags (o, i: raw output, input; a: announce it), the file to read as standard
 * input or nothing, the folder, the program, the number of arguments, these, and the environment.
 */
static void become_described(char *next, char *end)
{
	static const char complaint[] = "orrery: the program can't be executed in the guest\n", announcement = 0x1e;
	static const char *words[1 << 16];
	const char **last = words + sizeof words / sizeof *words - 2, **word = words, **environment = words;
	char *flags = take(&next), *input = take(&next), *folder = take(&next), *program = take(&next);
	int count = 0, output_raw = 0, input_raw = 0, announced = 0;

	for (; *flags; flags++) {
		output_raw |= *flags == 'o';
		input_raw |= *flags == 'i';
		announced |= *flags == 'a';
	}
	make_raw(output_raw, input_raw);
	for (char *digit = take(&next); *digit; digit++)
		count = count * 10 + *digit - '0';
	while (next < end && word < last) {
		*word++ = take(&next);
		if (--count == 0) {
			*word++ = 0;
			environment = word;
		}
	}
	if (announced)
		call(write, 1, &announcement, 1);
	if (*input) {
		call(close, 0);
		call(open, input, O_RDONLY);
		call(unlink, input);
	}
	call(rmdir, "/.orrery");
	call(chdir, folder);
	long error = call(execve, program, words, environment);
	call(write, 2, complaint, sizeof complaint - 1);
	call(exit, error == -2 ? 127 : 126);
}

static const char no_memory[] = "init: not enough memory to start a session\n";

/* Becomes the session: the leader of a new one, with the console as its terminal, so that Ctrl-C and job control work. */
static void become_session(void)
{
	static const char *script[] = { "/etc/session", 0 }, *shell[] = { "/bin/sh", "-l", 0 };
	static const char complaint[] = "init: neither /etc/session nor /bin/sh can be executed\n";
	static const unsigned long none;
	long error;

	call(setsid);
	/* On Linux /dev/console can't be anybody's controlling terminal, and stops nobody who reads it in the background. */
	long console = call(open, "/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (console < 0)
		console = call(open, "/dev/hvc0", O_RDWR | O_NOCTTY);
	if (console < 0)
		console = call(open, "/dev/console", O_RDWR | O_NOCTTY);
	call(ioctl, console, TIOCSCTTY, 0);
	for (int descriptor = 0; descriptor < 3; descriptor++)
		call(dup2, console, descriptor);
	if (console > 2)
		call(close, console);
	call(rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
	long file = call(open, "/.orrery/session", O_RDONLY | O_CLOEXEC);
	if (file >= 0) {
		long length = 0, more;
		while ((more = call(read, file, description + length, sizeof description - 1 - length)) > 0)
			length += more;
		call(unlink, "/.orrery/session");
		call(unlink, "/.orrery/init");
		become_described(description, description + length);
	}
	error = call(execve, script[0], script, environment);
	if (error == -ENOENT)
		error = call(execve, shell[0], shell, environment);
	if (error == -ENOMEM)
		call(write, 2, no_memory, sizeof no_memory - 1);
	else
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
	if (session < 0) {
		call(write, 2, no_memory, sizeof no_memory - 1);
		finish(125);
	}
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
