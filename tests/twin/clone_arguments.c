/* clone(2) and clone3(2) by their own arguments: what is shared, what is refused, how a child is waited for. */
#include "twin.h"
#include <linux/sched.h>

/* clone3 with these fields, whose child ends at once and is collected. */
#define CLONE3(size, ...)                                                                                              \
	do {                                                                                                           \
		struct arguments given_ = {__VA_ARGS__};                                                               \
		long child_ = syscall(SYS_clone3, &given_, size);                                                      \
		if (child_ == 0)                                                                                       \
			_exit(0);                                                                                      \
		printf("clone3 of " #size " with " #__VA_ARGS__ ": %s\n",                                              \
		       child_ > 0 ? "succeeds" : strerrorname_np(errno));                                              \
		if (child_ > 0)                                                                                        \
			waitpid(child_, NULL, __WALL);                                                                 \
	} while (0)

/* What the call takes, and what a later kernel's might. */
struct arguments {
	struct clone_args known;
	uint64_t beyond[2];
};

static void handler(int number)
{
	(void)number;
}

static void sizes(void)
{
	CLONE3(0, .known.exit_signal = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER0 - 1, .known.exit_signal = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER0, .known.exit_signal = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER1, .known.exit_signal = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.exit_signal = SIGCHLD);
	CLONE3(sizeof(struct arguments), .known.exit_signal = SIGCHLD);
	CLONE3(sizeof(struct arguments), .beyond[0] = 1);
	CLONE3(sizeof(struct arguments), .beyond[1] = 1L << 63);
	CLONE3(CLONE_ARGS_SIZE_VER2, .beyond[0] = 1);
	CLONE3(PAGE + 1, .known.exit_signal = SIGCHLD);
	TRY(syscall(SYS_clone3, NULL, CLONE_ARGS_SIZE_VER0));
	/* At the end of memory what is known fits, and what may follow does not. */
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct clone_args *last = (void *)(pages + PAGE - CLONE_ARGS_SIZE_VER2);
	munmap(pages + PAGE, PAGE);
	last->exit_signal = 65;
	TRY(syscall(SYS_clone3, last, CLONE_ARGS_SIZE_VER2));
	TRY(syscall(SYS_clone3, last, CLONE_ARGS_SIZE_VER2 + 8));
}

static void refused(void)
{
	/* The last signal there is, which would end its parent. */
	signal(64, SIG_IGN);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.exit_signal = 64);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.exit_signal = 65);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = 1);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_DETACHED);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.stack = PAGE);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.stack_size = PAGE);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.set_tid_size = 1);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_PARENT, .known.exit_signal = SIGCHLD);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_SIGHAND);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_THREAD);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_THREAD | CLONE_VM);
	CLONE3(CLONE_ARGS_SIZE_VER2, .known.flags = CLONE_VM | CLONE_SIGHAND | CLONE_CLEAR_SIGHAND);
}

/* How a child is waited for hangs on the signal it ends with. */
static void exit_signals(void)
{
	for (int i = 0; i < 3; i++) {
		struct clone_args given = {.exit_signal = (int[]){SIGCHLD, 0, SIGUSR1}[i]};
		long child = syscall(SYS_clone3, &given, sizeof given);
		if (child == 0)
			_exit(7);
		siginfo_t end = {0};
		printf("exit signal %d\n", (int)given.exit_signal);
		TRY(waitid(P_PID, child, &end, WEXITED | WNOWAIT | __WALL));
		printf("  status %d\n", end.si_status);
		TRY(waitpid(child, NULL, __WCLONE | WNOHANG) == child);
		TRY(waitpid(child, NULL, WNOHANG) == child);
		TRY(waitpid(child, NULL, __WALL) == child);
	}
}

static void shared(uint64_t flags, const char *name)
{
	struct clone_args given = {.flags = flags, .exit_signal = SIGCHLD};
	int file = open("/dev/null", O_RDONLY);

	chdir("/");
	umask(022);
	long child = syscall(SYS_clone3, &given, sizeof given);
	if (child == 0) {
		close(file);
		chdir("/tmp");
		umask(077);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	char folder[100];
	printf("%s: descriptor %s, folder %s, umask %03o\n", name, fcntl(file, F_GETFD) < 0 ? "closed" : "open",
	       getcwd(folder, sizeof folder), umask(022));
	close(file);
}

static void actions(uint64_t flags, const char *name)
{
	struct clone_args given = {.flags = flags, .exit_signal = SIGCHLD};
	long child = syscall(SYS_clone3, &given, sizeof given);

	if (child == 0) {
		struct sigaction one, two;
		sigaction(SIGUSR1, NULL, &one);
		sigaction(SIGUSR2, NULL, &two);
		printf("%s: handled %s, ignored %s\n", name, one.sa_handler == handler ? "still" : "no more",
		       two.sa_handler == SIG_IGN ? "still" : "no more");
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

int main(void)
{
	static int parents, childs;

	sizes();
	refused();
	signal(SIGUSR1, SIG_IGN);
	exit_signals();
	shared(0, "nothing shared");
	shared(CLONE_FILES, "CLONE_FILES");
	shared(CLONE_FS, "CLONE_FS");
	shared(CLONE_FILES | CLONE_FS, "both");
	signal(SIGUSR1, handler);
	signal(SIGUSR2, SIG_IGN);
	actions(0, "a child");
	actions(CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND");
	/* Where a child's number is written. */
	struct clone_args given = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
				   .exit_signal = SIGCHLD,
				   .parent_tid = (uintptr_t)&parents,
				   .child_tid = (uintptr_t)&childs};
	long child = syscall(SYS_clone3, &given, sizeof given);
	if (child == 0) {
		IS(childs == getpid());
		_exit(0);
	}
	waitpid(child, NULL, 0);
	IS(parents == child);
	IS(childs == 0);
	return 0;
}
