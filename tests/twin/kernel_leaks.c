/*
 * Calls that leave kernel memory behind: what the kernel's heap holds (Slab in /proc/meminfo) before and after many of each.
 *
 * Heaps breathe: stocks fill, caches come and go. So an action is repeated in rounds, and is fine as soon as one round
 * ends less than 32 bytes a call above its beginning: the smallest thing a call can leave is larger, and what leaks
 * leaks in every round.
 */
#include "twin.h"
#include <sys/file.h>

#define CALLS 600
#define ROUNDS 6
#define MOST_PER_CALL 32

static long slab(void)
{
	char text[4096];
	int file = open("/proc/meminfo", O_RDONLY);
	ssize_t length = read(file, text, sizeof text - 1);
	close(file);
	text[length > 0 ? length : 0] = 0;
	char *line = strstr(text, "\nSlab:");
	return line ? atol(line + 6) : -1;
}

#define REPEAT(name, ...)                                                                                              \
	do {                                                                                                           \
		long left = 0;                                                                                         \
		for (int round = 0; round < ROUNDS; round++) {                                                         \
			long before = slab();                                                                          \
			for (int i = 0; i < CALLS; i++) {                                                              \
				__VA_ARGS__;                                                                           \
			}                                                                                              \
			left = (slab() - before) * 1024 / CALLS;                                                       \
			if (left < MOST_PER_CALL)                                                                      \
				break;                                                                                 \
			/* What is freed later, as Linux does, is freed by then. */                                     \
			usleep(50000);                                                                                 \
			left = (slab() - before) * 1024 / CALLS;                                                       \
			if (left < MOST_PER_CALL)                                                                      \
				break;                                                                                 \
		}                                                                                                      \
		if (left < MOST_PER_CALL)                                                                              \
			printf("%s: nothing is left\n", name);                                                         \
		else                                                                                                   \
			printf("%s: %ld bytes a call\n", name, left);                                                  \
	} while (0)

static void visit(const char *path)
{
	char text[256];
	struct stat status;
	stat(path, &status);
	int file = open(path, O_RDONLY | O_NONBLOCK);
	read(file, text, sizeof text);
	close(file);
}

static void lock_and_unlock(int file, int set, int i)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i % 50, .l_len = 5};
	fcntl(file, set, &lock);
	lock.l_type = F_UNLCK;
	lock.l_start = lock.l_len = 0;
	fcntl(file, set, &lock);
}

static void handle(int number) { (void)number; }

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	const char *paths[] = {
		"/proc/sys", "/proc/sys/kernel", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/random/uuid",
		"/proc/sys/fs/nr_open", "/proc/self/task", "/proc/self/stat", "/proc/self/fd/0", "/proc/self/fdinfo/0",
		"/proc/1/task/1/stat", "/proc/1/task/1/fd", "/proc/1/cwd", "/proc/net", "/proc/99999999", "/proc/self/maps",
		"/dev/null", "/dev/pts", "/dev/fd/0", "/absent",
	};
	for (size_t at = 0; at < sizeof paths / sizeof *paths; at++)
		REPEAT(paths[at], visit(paths[at]));

	int file = open("leaks", O_RDWR | O_CREAT, 0600);
	REPEAT("record locks", lock_and_unlock(file, F_SETLK, i));
	REPEAT("locks of open files", lock_and_unlock(file, F_OFD_SETLK, i));
	REPEAT("flock", flock(file, i % 2 ? LOCK_EX : LOCK_UN));
	REPEAT("descriptors", close(fcntl(file, F_DUPFD, 10 + i)));
	REPEAT("pipes", int ends[2]; if (pipe(ends) == 0) { write(ends[1], "x", 1); close(ends[0]); close(ends[1]); });
	REPEAT("files", close(open("leaks-2", O_RDWR | O_CREAT, 0600)); unlink("leaks-2"));
	REPEAT("directories", mkdir("leaks-d", 0700); close(open("leaks-d/f", O_CREAT, 0600)); unlink("leaks-d/f");
	       rmdir("leaks-d"));
	REPEAT("removed directories", mkdir("leaks-d", 0700); int at = open("leaks-d", O_PATH); rmdir("leaks-d");
	       faccessat(at, "f", F_OK, 0); mkdirat(at, "f", 0700); close(at));
	REPEAT("renaming", mkdir("leaks-d", 0700); mkdir("leaks-e", 0700); rename("leaks-d", "leaks-e"); rmdir("leaks-e"));
	REPEAT("areas", munmap(mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 3 * PAGE));

	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, handle);
	REPEAT("ignored signals", kill(getpid(), SIGUSR1));
	REPEAT("handled signals", kill(getpid(), SIGUSR2));
	REPEAT("nobody's number", kill(99999999, 0));
	REPEAT("processes", if (i % 8 == 0) CHILD());
	unlink("leaks");
	return 0;
}
