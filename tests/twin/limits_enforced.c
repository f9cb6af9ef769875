/* Limits at work: descriptors, locked memory, the stack, address space, file sizes, nice; and prlimit(2) on others. */
#include "twin.h"
#include <pthread.h>
#include <sys/ioctl.h>

static void limit(int which, rlim_t soft)
{
	struct rlimit limit;

	getrlimit(which, &limit);
	limit.rlim_cur = soft;
	if (setrlimit(which, &limit))
		printf("setrlimit: %s\n", strerrorname_np(errno));
}

static void become(int user)
{
	if (setresgid(user, user, user) || setresuid(user, user, user))
		printf("setresuid: %s\n", strerrorname_np(errno));
}

static void descriptors(void)
{
	int pipes[2], fd;

	limit(RLIMIT_NOFILE, 10);
	TRY(dup2(1, 9));
	TRY(dup2(1, 10));
	TRY(dup2(1, 1 << 20));
	TRY(dup2(1, -1));
	TRY(dup3(1, 10, O_CLOEXEC));
	TRY(fcntl(1, F_DUPFD, 10));
	TRY(fcntl(1, F_DUPFD, 9));
	while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd < 8)
		;
	printf("the last one %d\n", fd);
	TRY(open("/dev/null", O_RDONLY));
	TRY(dup(1));
	close(8);
	TRY(pipe(pipes));
	TRY(open("/dev/null", O_RDONLY));
	/* What is open stays so when the limit falls below it, and can be used, replaced and closed. */
	limit(RLIMIT_NOFILE, 5);
	TRY(write(9, "9\n", 2));
	TRY(dup2(9, 9));
	TRY(dup2(1, 9));
	TRY(close(9));
	TRY(dup(1));
	TRY(open("/dev/null", O_RDONLY));
	close(4);
	TRY(open("/dev/null", O_RDONLY));
	show_status("a child has it too", CHILD(TRY(dup(1)); struct rlimit now; getrlimit(RLIMIT_NOFILE, &now); printf("%ld\n", (long)now.rlim_cur)));
	limit(RLIMIT_NOFILE, 0);
	TRY(open("/dev/null", O_RDONLY));
	TRY(read(3, NULL, 0));
}

static void locked(void)
{
	char *memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	limit(RLIMIT_MEMLOCK, 4 * PAGE);
	become(1000);
	TRY(mlock(memory, 4 * PAGE));
	TRY(mlock(memory, 4 * PAGE));
	TRY(mlock(memory + 4 * PAGE, 1));
	TRY(mlock(memory, 5 * PAGE));
	TRY(munlock(memory, PAGE));
	TRY(mlock(memory + 4 * PAGE, 1));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED ? -1 : 0);
	TRY(munlockall());
	TRY(mlockall(MCL_FUTURE));
	TRY(mmap(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
	TRY(mlockall(MCL_CURRENT));
	TRY(munlockall());
	limit(RLIMIT_MEMLOCK, 0);
	TRY(mlock(memory, PAGE));
	TRY(mlockall(MCL_FUTURE));
}

static __attribute__((noinline)) int deeper(int depth)
{
	volatile char frame[1024];

	frame[0] = (char)depth;
	return depth ? deeper(depth - 1) + frame[0] : 0;
}

static void stack(void)
{
	limit(RLIMIT_STACK, 512 << 10);
	show_status("shallow", CHILD(deeper(100)));
	show_status("deep", CHILD(deeper(2000)));
	show_status("deep with more", CHILD(limit(RLIMIT_STACK, 8 << 20); deeper(2000)));
	/* Arguments may take a quarter of it. */
	char *big = malloc(200 << 10);
	memset(big, 'x', 200 << 10);
	big[100 << 10] = 0;
	TRY(execl("/bin/true", "true", big, big, NULL));
	show_status("fewer arguments", CHILD(execl("/bin/true", "true", big, NULL)));
}

static void sizes(void)
{
	char *memory;

	/* What is printed may go to a file, too: later. */
	struct { long result; int error; } steps[7];
	int step = 0;
#define NOTE(call) (errno = 0, steps[step].result = (call), steps[step++].error = errno)
	limit(RLIMIT_FSIZE, 1000);
	signal(SIGXFSZ, SIG_IGN);
	int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char text[600] = {0};
	NOTE(write(fd, text, 600));
	NOTE(write(fd, text, 600));
	NOTE(write(fd, text, 1));
	NOTE(ftruncate(fd, 1001));
	NOTE(ftruncate(fd, 1000));
	NOTE(pwrite(fd, text, 10, 995));
	NOTE(pwrite(fd, text, 10, 1000));
	int status = CHILD(signal(SIGXFSZ, SIG_DFL); pwrite(fd, text, 10, 2000));
	limit(RLIMIT_FSIZE, RLIM_INFINITY);
	for (int i = 0; i < step; i++)
		printf("step %d: %ld %s\n", i, steps[i].result, steps[i].error ? strerrorname_np(steps[i].error) : "");
	show_status("the signal", status);
	limit(RLIMIT_AS, 256 << 20);
	TRY(mmap(NULL, 512UL << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
	TRY((memory = mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED ? -1 : 0);
	TRY(mremap(memory, 64 << 20, 512UL << 20, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	TRY(munmap(memory, 64 << 20));
	limit(RLIMIT_DATA, 32 << 20);
	TRY(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
	IS(sbrk(64 << 20) == (void *)-1);
}

static void *lowers(void *unused)
{
	limit(RLIMIT_NOFILE, 77);
	return unused;
}

static void nice_(void)
{
	struct rlimit thirty = {30, 30};

	setrlimit(RLIMIT_NICE, &thirty);
	become(1000);
	TRY(setpriority(PRIO_PROCESS, 0, 10));
	TRY(setpriority(PRIO_PROCESS, 0, 0));
	TRY(setpriority(PRIO_PROCESS, 0, -10));
	TRY(setpriority(PRIO_PROCESS, 0, -11));
	thirty.rlim_cur = 20;
	TRY(setrlimit(RLIMIT_NICE, &thirty));
	TRY(setpriority(PRIO_PROCESS, 0, -10));
	TRY(setpriority(PRIO_PROCESS, 0, 5));
	TRY(setpriority(PRIO_PROCESS, 0, -1));
	thirty.rlim_max = 31;
	TRY(setrlimit(RLIMIT_NICE, &thirty));
}

/* A process that waits for the end of a pipe. */
static pid_t target(int user, int real)
{
	pid_t child = fork();

	if (child == 0) {
		if (setresgid(user, user, user) || setresuid(real, user, user))
			_exit(1);
		for (;;)
			pause();
	}
	sleep_ms(30);
	return child;
}

static void others(void)
{
	struct rlimit old, low = {5, 50}, lower = {5, 40}, higher = {5, 60}, wrong = {6, 5};
	pid_t mine = target(1000, 1000), half = target(1000, 1001), his = target(1001, 1001), roots = target(0, 0);

	prlimit(mine, RLIMIT_NOFILE, &low, NULL);
	show_status("a user", CHILD(
		become(1000);
		TRY(prlimit(mine, RLIMIT_NOFILE, NULL, &old));
		printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
		TRY(prlimit(mine, RLIMIT_NOFILE, &lower, &old));
		TRY(prlimit(mine, RLIMIT_NOFILE, &higher, NULL));
		TRY(prlimit(mine, RLIMIT_NOFILE, &wrong, NULL));
		TRY(prlimit(mine, 99, NULL, &old));
		TRY(prlimit(half, RLIMIT_NOFILE, NULL, &old));
		TRY(prlimit(his, RLIMIT_NOFILE, NULL, &old));
		TRY(prlimit(roots, RLIMIT_NOFILE, &lower, NULL));
		TRY(prlimit(1 << 20, RLIMIT_NOFILE, NULL, &old));
		TRY(prlimit(getpid(), RLIMIT_NOFILE, NULL, &old));
	));
	show_status("another group", CHILD(setresgid(5, 5, 5); setresuid(1000, 1000, 1000); TRY(prlimit(mine, RLIMIT_NOFILE, NULL, &old))));
	show_status("an effective user", CHILD(setresgid(1000, 1000, 1000); setresuid(1001, 1000, 1000);
					       TRY(prlimit(mine, RLIMIT_NOFILE, NULL, &old))));
	show_status("root", CHILD(TRY(prlimit(mine, RLIMIT_NOFILE, &higher, &old)); printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
				  TRY(prlimit(his, RLIMIT_NOFILE, &low, NULL)); TRY(prlimit(half, RLIMIT_NOFILE, &low, NULL))));
	show_status("threads share them", CHILD(pthread_t thread; pthread_create(&thread, NULL, lowers, NULL); pthread_join(thread, NULL);
						getrlimit(RLIMIT_NOFILE, &old); printf("%ld\n", (long)old.rlim_cur)));
	pid_t all[] = {mine, half, his, roots};
	for (int i = 0; i < 4; i++) {
		kill(all[i], SIGKILL);
		waitpid(all[i], NULL, 0);
	}
	/* One that has ended and is not collected still has limits. */
	pid_t zombie = fork();
	if (zombie == 0)
		_exit(0);
	siginfo_t info;
	waitid(P_PID, zombie, &info, WEXITED | WNOWAIT);
	TRY(prlimit(zombie, RLIMIT_NOFILE, NULL, &old));
	waitpid(zombie, NULL, 0);
	TRY(prlimit(zombie, RLIMIT_NOFILE, NULL, &old));
}

int main(void)
{
	enter_folder("limits_enforced");
	show_status("descriptors", CHILD(descriptors()));
	show_status("locked memory", CHILD(locked()));
	show_status("the stack", CHILD(stack()));
	show_status("sizes", CHILD(sizes()));
	show_status("nice", CHILD(nice_()));
	others();
	return 0;
}
