/* termios(3) on the console: settings are kept, canonical and raw rules, window size, who is in front. */
#include "twin.h"
#include <sys/ioctl.h>
#include <termios.h>

static void show(const char *when, struct termios *t)
{
	printf("%s: i %o o %o l %o, c %o, min %d time %d\n", when, t->c_iflag, t->c_oflag, t->c_lflag,
	       t->c_cflag & (CSIZE | PARENB | CREAD | CSTOPB), t->c_cc[VMIN], t->c_cc[VTIME]);
	printf("  keys %d %d %d %d %d %d %d %d %d\n", t->c_cc[VINTR], t->c_cc[VQUIT], t->c_cc[VERASE], t->c_cc[VKILL],
	       t->c_cc[VEOF], t->c_cc[VSUSP], t->c_cc[VWERASE], t->c_cc[VREPRINT], t->c_cc[VLNEXT]);
}

int main(void)
{
	struct termios saved, now;
	struct winsize window;
	char text[16];
	int number;

	TRY(isatty(0));
	TRY(tcgetattr(0, &now));
	TRY(ioctl(0, TIOCGWINSZ, &window));
	int tty = TRY(open("/dev/tty", O_RDWR | O_NONBLOCK));
	TRY(isatty(tty));
	TRY(tcgetattr(tty, &saved));
	now = saved;
	now.c_iflag = ICRNL | IXON;
	now.c_oflag = OPOST | ONLCR;
	now.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
	TRY(tcsetattr(tty, TCSANOW, &now));
	TRY(tcgetattr(tty, &now));
	show("cooked", &now);
	cfmakeraw(&now);
	TRY(tcsetattr(tty, TCSADRAIN, &now));
	memset(&now, 0, sizeof now);
	TRY(tcgetattr(tty, &now));
	show("raw", &now);
	TRY(read(tty, text, sizeof text));
	/* In raw mode VMIN 0 returns at once, VTIME after a while. */
	now.c_cc[VMIN] = 0, now.c_cc[VTIME] = 0;
	tcsetattr(tty, TCSAFLUSH, &now);
	fcntl(tty, F_SETFL, O_RDWR);
	TRY(read(tty, text, sizeof text));
	now.c_cc[VTIME] = 1;
	tcsetattr(tty, TCSAFLUSH, &now);
	TRY(read(tty, text, sizeof text));
	TRY(tcsetattr(tty, 99, &now));
	TRY(ioctl(tty, TIOCGWINSZ, &window));
	struct winsize other = {33, 77, 0, 0};
	TRY(ioctl(tty, TIOCSWINSZ, &other));
	memset(&other, 0, sizeof other);
	TRY(ioctl(tty, TIOCGWINSZ, &other));
	printf("%d x %d\n", other.ws_row, other.ws_col);
	ioctl(tty, TIOCSWINSZ, &window);
	TRY(ioctl(tty, FIONREAD, &number));
	printf("waiting %d\n", number);
	TRY(ioctl(tty, TIOCOUTQ, &number));
	TRY(ioctl(tty, 0x5499, &number));
	TRY(ioctl(tty, TIOCGWINSZ, (void *)8));
	TRY(tcflush(tty, TCIFLUSH));
	TRY(tcflush(tty, 99));
	TRY(tcdrain(tty));
	TRY(ioctl(tty, TCSBRK, 1));

	/* Groups: ours is in front; a background group may not write with TOSTOP, nor read. */
	IS(tcgetpgrp(tty) == getpgrp() || tcgetpgrp(tty) > 0);
	IS(tcgetsid(tty) == getsid(0));
	TRY(tcsetpgrp(tty, 1000000));
	TRY(tcgetpgrp(1));
	int status;
	pid_t child = fork();
	if (child == 0) {
		setpgid(0, 0);
		read(tty, text, 1);
		_exit(0);
	}
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("background read", status);
	kill(child, SIGKILL), waitpid(child, &status, 0);
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		tcsetpgrp(tty, getpgrp());
		_exit(0);
	}
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("background tcsetpgrp", status);
	kill(child, SIGKILL), waitpid(child, &status, 0);
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		signal(SIGTTOU, SIG_IGN);
		signal(SIGTTIN, SIG_IGN);
		TRY(read(tty, text, 1));
		TRY(tcsetattr(tty, TCSANOW, &saved));
		_exit(0);
	}
	IS(waitpid(child, &status, WUNTRACED) == child);
	show_status("background, signals ignored", status);
	TRY(tcsetattr(tty, TCSANOW, &saved));
	show_status("without a terminal", CHILD(setsid(); TRY(open("/dev/tty", O_RDWR)); TRY(ioctl(tty, TIOCSCTTY, 0));
						TRY(ioctl(tty, TIOCGPGRP, &number)); TRY(ioctl(tty, TIOCNOTTY, 0))));
	return 0;
}
