/*
 * Takes all there is of something: memory, descriptors, processes, room on a file system, the kernel's own memory. Each
 * ends with an error, or with the end of the greedy program, and everything can be had again.
 *
 * usage: shortage [PART [SECONDS]]
 * PART: eater, eaters, sleeper (holds memory and sleeps), brink (work while there is none), tables (page tables), sparse (the same,
 * in one call), pipes, hoards (of pipes, by many
 * processes), files, names, symlinks, links, attributes, mounts, descriptors, events, terminals, pollers, threads (that wait in
 * every way), zombies, areas, queues (of signals), arguments, environments, locks, or all. What meets no limit stops
 * after SECONDS (20). Meanwhile somebody reads /proc.
 */
#include "hostile.h"
#include <dirent.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static double seconds = 20;

static uint64_t end_of_part(void)
{
	return now_ns() + (uint64_t)(seconds * 1e9);
}

/* Makes one after the other until that is refused, which must be as Linux refuses it, or there is enough. */
static void until_refused(const char *what, long most, int (*make)(long number))
{
	uint64_t end = end_of_part();
	long count = 0;

	errno = 0;
	while (count < most && (count % 64 || now_ns() < end) && make(count) == 0)
		count++;
	/* What is told may need a descriptor or memory: neither must be there any more. */
	int error = errno;
	printf("%ld %s, then %s\n", count, what, strerrorname_np(error));
	switch (error) {
	case 0: case ENOMEM: case EMFILE: case ENFILE: case ENOSPC: case EAGAIN: case EMLINK: case ENOLCK: case E2BIG:
		break;
	default:
		wrong("%s are refused with %s", what, strerrorname_np(error));
	}
}

/* Reads some of what /proc tells of the system and of a process, whatever comes of it. */
static void read_proc(pid_t who)
{
	static const char *const paths[] = {
		"/proc/meminfo", "/proc/slabinfo", "/proc/buddyinfo", "/proc/vmstat", "/proc/stat", "/proc/locks", "/proc/mounts",
		"/proc/self/mountinfo", "/proc", "/proc/%d/status", "/proc/%d/stat", "/proc/%d/maps", "/proc/%d/smaps_rollup",
		"/proc/%d/limits", "/proc/%d/environ", "/proc/%d/cmdline", "/proc/%d/fd", "/proc/%d/task",
	};
	static char text[1 << 14];

	for (size_t i = 0; i < COUNT(paths); i++) {
		char path[64];

		snprintf(path, sizeof path, paths[i], who);
		int file = open(path, O_RDONLY | O_CLOEXEC);
		for (int part = 0; part < 8; part++)
			if (read(file, text, sizeof text) <= 0 && syscall(SYS_getdents64, file, text, sizeof text) <= 0)
				break;
		close(file);
	}
}

/* Runs something greedy in a child, while another one reads /proc. It may end by itself (0) or be killed for want of memory. */
static int greedy(const char *name, void (*what)(void))
{
	pid_t child = fork(), parent = getpid();

	if (child == 0) {
		struct rlimit files = {1 << 20, 1 << 20};
		int first = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

		/* Somebody has to end when memory is out. The many who hold little each would be spared for those who watch. */
		MUST(write(first, "500", 3) == 3 && close(first) == 0);
		setrlimit(RLIMIT_NOFILE, &files);
		what();
		_exit(0);
	}
	pid_t reader = fork();
	if (reader == 0)
		for (; getppid() == parent; sleep_ms(20))
			read_proc(child);
	int status = -1;
	MUST(child > 0 && waitpid(child, &status, 0) == child);
	/* The greedy one may have been so fast that there was no memory for a reader. */
	if (reader > 0)
		MUST(kill(reader, SIGKILL) == 0 && waitpid(reader, NULL, 0) == reader);
	if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		wrong("%s: status %#x", name, status);
	return WIFSIGNALED(status);
}

/* Programs run. */
static void still_works(void)
{
	pid_t child = fork();

	if (child == 0) {
		char *const arguments[] = {"shortage", "--exit", NULL};

		execve("/proc/self/exe", arguments, arguments + 2);
		_exit(1);
	}
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

static void check(const char *name, void (*what)(void))
{
	Memory before = memory_now();
	int was_killed = greedy(name, what);

	printf("%s: %s\n", name, was_killed ? "killed" : "ended by itself");
	/* The kernel may keep room for as many threads as there were. */
	memory_is_back(name, before, 4096);
	still_works();
}

static void eat(void)
{
	for (;;) {
		char *memory = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (memory == MAP_FAILED)
			return;
		for (size_t i = 0; i < 1 << 22; i += PAGE)
			memory[i] = 1;
	}
}

static void eater(void)
{
	check("eater", eat);
}

static void eat_together(void)
{
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			eat();
			_exit(0);
		}
	collect_all();
}

static void eaters(void)
{
	check("eaters", eat_together);
}

/* One has nearly everything and sleeps; others, who need a little, do not die for it. */
static void sleeper(void)
{
	int gate[2];
	char token;

	MUST(pipe(gate) == 0);
	pid_t child = fork();
	if (child == 0) {
		size_t free = memory_row("MemFree:") * 1024ul;
		/* What is left is enough to fork, but not for what comes then. */
		size_t left = free >> 4 > 8ul << 20 ? free >> 4 : 8ul << 20;
		size_t size = (free - left) & ~(PAGE - 1);
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		for (size_t i = 0; i < size; i += PAGE)
			memory[i] = 1;
		if (write(gate[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	MUST(read(gate[0], &token, 1) == 1);
	pid_t other = fork();
	if (other == 0) {
		size_t size = memory_row("MemFree:") * 1024ul + (4 << 20);
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		for (size_t i = 0; i < size; i += PAGE)
			memory[i] = 1;
		_exit(0);
	}
	int status = -1;
	if (!MUST(other > 0))
		kill(child, SIGKILL);
	else if (MUST(waitpid(other, &status, 0) == other) && status != 0)
		wrong("the wrong one was killed: status %#x", status);
	MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(gate[0]);
	close(gate[1]);
}

/* Whether all bytes of some pages are this. */
static int all_are(const char *bytes, size_t pages, char expected)
{
	for (size_t i = 0; i < pages * PAGE; i++)
		if (bytes[i] != expected)
			return 0;
	return 1;
}

static void fill(char *bytes, size_t pages, char byte)
{
	for (size_t i = 0; i < pages; i++)
		memset(bytes + i * PAGE, byte, PAGE);
}

/* Every kind of page fault, by the program and by calls for it, each with pages that must be as they were. */
static void fault_in_every_way(int round)
{
	enum { PAGES = 64 };
	const int rights = PROT_READ | PROT_WRITE, private = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	const char byte = 'a' + round % 20;
	int file = open("/tmp/brink", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	/* New pages, and those of zeros that are written afterwards. */
	char *own = mmap(NULL, 2 * PAGES * PAGE, rights, private, -1, 0);
	if (!MUST(file >= 0 && own != MAP_FAILED))
		return;
	MUST(all_are(own, PAGES, 0));
	fill(own, PAGES, byte);
	/* Holes of a file, in mappings that are shared and private. */
	MUST(ftruncate(file, PAGES * PAGE) == 0);
	char *shared = mmap(NULL, PAGES * PAGE, rights, MAP_SHARED, file, 0);
	char *copied = mmap(NULL, PAGES * PAGE, rights, MAP_PRIVATE, file, 0);
	if (!MUST(shared != MAP_FAILED && copied != MAP_FAILED))
		return;
	fill(shared, PAGES / 2, byte + 1);
	MUST(all_are(shared + PAGES / 2 * PAGE, PAGES / 2, 0));
	fill(copied, PAGES, byte + 2);
	MUST(all_are(shared, PAGES / 2, byte + 1) && all_are(copied, PAGES, byte + 2));
	/* Tables of every level: neighbouring pages, and some that are 2 MiB, 1 GiB and 512 GiB apart. */
	char *wide = mmap(NULL, 1ul << 41, rights, private, -1, 0);
	MUST(wide != MAP_FAILED);
	for (int level = 1; level < 4 && wide != MAP_FAILED; level++)
		for (size_t i = 1; i < 4; i++) {
			char *there = wide + (i << (12 + 9 * level));

			MUST(*there == 0);
			*there = byte;
			MUST(*there == byte);
		}
	/* Calls copy to and from pages that are not there. */
	MUST(pread(file, own + PAGES * PAGE, PAGES / 2 * PAGE, 0) == PAGES / 2 * PAGE);
	MUST(all_are(own + PAGES * PAGE, PAGES / 2, byte + 1));
	MUST(pwrite(file, wide, PAGE, 0) == PAGE && all_are(shared, 1, 0));
	MUST(all_are(own, PAGES, byte));
	munmap(own, 2 * PAGES * PAGE);
	munmap(shared, PAGES * PAGE);
	munmap(copied, PAGES * PAGE);
	munmap(wide, 1ul << 41);
	MUST(close(file) == 0 && unlink("/tmp/brink") == 0);
}

/* Pages that others have too are written: by the parent, and by a child, if there may be one. */
static void write_what_is_shared(char *pages, size_t count)
{
	pid_t child = fork();

	if (child == 0) {
		MUST(all_are(pages, count, 'p'));
		fill(pages, count, 'c');
		_exit(all_are(pages, count, 'c') ? 0 : 1);
	}
	/* No new process begins while memory is low. */
	if (child < 0)
		return;
	int status = -1;
	fill(pages, count, 'q');
	MUST(waitpid(child, &status, 0) == child);
	if (status != 0)
		wrong("a child at the brink: status %#x", status);
	MUST(all_are(pages, count, 'q'));
	fill(pages, count, 'p');
}

/* Somebody takes all memory there is, again and again, and ends for it. Another one works meanwhile, and loses nothing. */
static void brink(void)
{
	static char pages[64 * PAGE];
	Memory before = memory_now();
	pid_t parent = getpid(), greedy_one = fork();

	if (greedy_one == 0) {
		for (int adjusted = 0; getppid() == parent;) {
			pid_t child = fork();

			if (child == 0) {
				int own = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

				adjusted = write(own, "1000", 4) == 4;
				if (adjusted)
					eat();
				_exit(0);
			}
			if (child > 0)
				waitpid(child, NULL, 0);
			else
				sleep_ms(1);
		}
		_exit(0);
	}
	uint64_t end = end_of_part();
	int round = 0;
	fill(pages, COUNT(pages) / PAGE, 'p');
	do {
		fault_in_every_way(round++);
		write_what_is_shared(pages, COUNT(pages) / PAGE);
	} while (now_ns() < end);
	MUST(kill(greedy_one, SIGKILL) == 0 && waitpid(greedy_one, NULL, 0) == greedy_one);
	printf("brink: %d rounds\n", round);
	memory_is_back("brink", before, 4096);
	still_works();
}

/* A page here and there: what is large are the page tables. */
static void eat_tables(void)
{
	const size_t size = 1ul << 45;
	volatile char *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return;
	for (size_t i = 0; i < size; i += 1 << 21)
		(void)memory[i];
}

static void tables(void)
{
	check("tables", eat_tables);
}

static void eat_pipes(void)
{
	static char bytes[1 << 16];
	int ends[2];

	while (pipe(ends) == 0) {
		fcntl(ends[1], F_SETFL, O_NONBLOCK);
		if (write(ends[1], bytes, sizeof bytes) < 0 && errno != EAGAIN)
			return;
	}
}

static void pipes(void)
{
	check("pipes", eat_pipes);
}

/* One page of a file at very many places, so far apart that each takes a page table of its own. Gives how many. */
static long show_everywhere(char *base, int file)
{
	const long most = 32000;
	long count = 0;

	while (count < most && mmap(base + (count << 21), PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED)
		count++;
	return count;
}

/* One call each that has the kernel make very many page tables: it ends with them, for want of memory, or with the caller. */
static void eat_sparsely(void)
{
	int file = open("/tmp/sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char *base = mmap(NULL, 1ul << 37, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct iovec parts[1024];

	unlink("/tmp/sparse");
	if (file < 0 || base == MAP_FAILED || write(file, "x", 1) != 1)
		return;
	base = (char *)(((uintptr_t)base + (1 << 21) - 1) & -(1ul << 21));
	long count = show_everywhere(base, file);
	/* As many as leave memory for a little: then all children together want more than there is. */
	long some = memory_row("MemFree:") / 4 * 3 / 4;
	for (long i = 0; i < count && i < some; i++)
		*(volatile char *)(base + (i << 21));
	printf("%ld pages, %ld of them there\n", count, some < count ? some : count);
	for (int i = 0; i < 3; i++)
		if (fork() == 0)
			_exit(0);
	collect_all();
	for (int turn = 0; turn < 3; turn++) {
		pid_t child = fork();

		if (child == 0) {
			for (long first = 0; turn == 0 && first + 1024 <= count; first += 1024) {
				for (long i = 0; i < 1024; i++)
					parts[i] = (struct iovec){base + ((first + i) << 21), 1};
				if (writev(null, parts, 1024) < 0 && errno != ENOMEM && errno != EFAULT)
					wrong("writev: %s", strerrorname_np(errno));
			}
			if (turn == 1 && mlockall(MCL_CURRENT) && errno != ENOMEM && errno != EAGAIN && errno != EPERM)
				wrong("mlockall: %s", strerrorname_np(errno));
			for (long i = 0; turn == 2 && i < count; i++)
				madvise(base + (i << 21), PAGE, MADV_WILLNEED);
			_exit(0);
		}
	}
	collect_all();
	mlockall(MCL_CURRENT);
}

static void sparse(void)
{
	check("sparse", eat_sparsely);
}

/* Many who each hold little but what the kernel keeps for them, and hold on to it. */
static void eat_hoards(void)
{
	enum { HOARDERS = 24 };
	_Atomic unsigned *full = shared_memory(PAGE);
	pid_t children[HOARDERS], parent = getpid();
	unsigned count = 0, ended = 0;

	for (; count < HOARDERS; count++) {
		children[count] = fork();
		if (children[count] == 0) {
			eat_pipes();
			atomic_fetch_add(full, 1);
			while (getppid() == parent)
				sleep_ms(50);
			_exit(0);
		}
		if (children[count] < 0)
			break;
	}
	while (*full + ended < count)
		if (waitpid(-1, NULL, WNOHANG) > 0)
			ended++;
		else
			sleep_ms(5);
	printf("%u hoarders, of whom %u were killed\n", count, ended);
	for (unsigned i = 0; i < count; i++)
		kill(children[i], SIGKILL);
	collect_all();
}

static void hoards(void)
{
	check("hoards", eat_hoards);
}

/* A full file system says so, and is empty again afterwards. */
static void files(void)
{
	static char bytes[1 << 16];
	struct statfs before, after;

	MUST(mkdir("/tmp/full", 0755) == 0);
	MUST(mount("none", "/tmp/full", "tmpfs", 0, "size=8m,nr_inodes=500") == 0);
	MUST(statfs("/tmp/full", &before) == 0);
	for (int round = 0; round < 3; round++) {
		int file = open("/tmp/full/large", O_RDWR | O_CREAT, 0600);
		ssize_t sum = 0, got;

		MUST(file >= 0);
		while ((got = write(file, bytes, sizeof bytes)) > 0)
			sum += got;
		MUST(errno == ENOSPC || errno == 0);
		FAILS(write(file, bytes, 1), ENOSPC);
		MUST(sum == 8 << 20);
		MUST(ftruncate(file, 100) == 0 && write(file, bytes, 1000) == 1000);
		/* A hole larger than the file system costs nothing. */
		MUST(ftruncate(file, 1l << 40) == 0);
		MUST(pread(file, bytes, 100, 1l << 39) == 100 && bytes[50] == 0);
		FAILS(pwrite(file, bytes, 1, INT64_MAX), EFBIG);
		FAILS(ftruncate(file, -1), EINVAL);
		MUST(unlink("/tmp/full/large") == 0 && close(file) == 0);
		int count = 0;
		char name[64];
		for (;; count++) {
			sprintf(name, "/tmp/full/%d", count);
			file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
			if (file < 0)
				break;
			close(file);
		}
		if (errno != ENOSPC || count < 450 || count > 500)
			wrong("%d files, then %s", count, strerrorname_np(errno));
		while (count-- > 0) {
			sprintf(name, "/tmp/full/%d", count);
			MUST(unlink(name) == 0);
		}
	}
	MUST(statfs("/tmp/full", &after) == 0);
	MUST(before.f_bfree == after.f_bfree && before.f_ffree == after.f_ffree);
	MUST(umount("/tmp/full") == 0 && rmdir("/tmp/full") == 0);
}

/* Makes files in a folder of their own until that is refused. The folder is empty and gone afterwards. */
static void check_files(const char *name, void (*what)(void))
{
	Memory before = memory_now();
	struct dirent *entry;
	int found;

	/* A tmpfs allows as many files as half of the memory has pages. Where there is much memory, it may be a million, but of
	 * symbolic links, whose long targets would be all there is. */
	int many = memory_row("MemTotal:") > 1900000 && geteuid() == 0 && strcmp(name, "symlinks");
	MUST(mkdir("/tmp/many", 0755) == 0);
	if (many)
		MUST(mount("none", "/tmp/many", "tmpfs", 0, "nr_inodes=1001000") == 0);
	MUST(chdir("/tmp/many") == 0);
	greedy(name, what);
	DIR *folder = opendir(".");
	do {
		found = 0;
		rewinddir(folder);
		while ((entry = readdir(folder)))
			found += unlink(entry->d_name) == 0;
	} while (found);
	closedir(folder);
	MUST(chdir("/") == 0 && (!many || umount("/tmp/many") == 0) && rmdir("/tmp/many") == 0);
	memory_is_back(name, before, 2048);
	still_works();
}

/* Very many names. */
static int make_name(long number)
{
	char name[64];

	sprintf(name, "a-rather-long-name-of-a-file-%ld", number);
	return mknod(name, S_IFREG | 0600, 0);
}

static void eat_names(void)
{
	until_refused("names", 1000000, make_name);
}

static void names(void)
{
	check_files("names", eat_names);
}

static int make_symlink(long number)
{
	static char target[PATH_MAX];
	char name[32];

	memset(target, 'x', sizeof target - 1);
	sprintf(name, "%ld", number);
	/* Short ones and long ones. */
	return symlink(target + (number % 2 ? 0 : sizeof target - 40), name);
}

static void eat_symlinks(void)
{
	until_refused("symlinks", 1000000, make_symlink);
}

static void symlinks(void)
{
	check_files("symlinks", eat_symlinks);
}

static int make_link(long number)
{
	char name[32];

	sprintf(name, "%ld", number);
	return number ? link("0", name) : mknod(name, S_IFREG | 0600, 0);
}

static void eat_links(void)
{
	until_refused("links", 1000000, make_link);
}

static void links(void)
{
	check_files("links", eat_links);
}

/* A new file for every ten attributes, so that no file has too many. */
static int make_attribute(long number)
{
	static char value[1 << 12];
	char file[32], name[32];

	sprintf(file, "%ld", number / 10);
	sprintf(name, "user.%ld", number);
	if (number % 10 == 0 && mknod(file, S_IFREG | 0600, 0))
		return -1;
	return setxattr(file, name, value, sizeof value, 0);
}

static void eat_attributes(void)
{
	until_refused("attributes", 1000000, make_attribute);
}

static void attributes(void)
{
	check_files("attributes", eat_attributes);
}

/* Each in a folder of the first, with which all go. */
static int make_mount(long number)
{
	char name[32];

	sprintf(name, "/tmp/mounts/%ld", number);
	return mkdir(name, 0755) ? -1 : mount("none", name, "tmpfs", 0, NULL);
}

static void eat_mounts(void)
{
	until_refused("mounts", 1000000, make_mount);
}

static void mounts(void)
{
	Memory before = memory_now();

	MUST(mkdir("/tmp/mounts", 0755) == 0 && mount("none", "/tmp/mounts", "tmpfs", 0, NULL) == 0);
	greedy("mounts", eat_mounts);
	MUST(umount2("/tmp/mounts", MNT_DETACH) == 0 && rmdir("/tmp/mounts") == 0);
	memory_is_back("mounts", before, 2048);
	still_works();
}

static int make_descriptor(long number)
{
	(void)number;
	return open("/dev/null", O_RDONLY) < 0 ? -1 : 0;
}

static void eat_descriptors(void)
{
	until_refused("descriptors", LONG_MAX, make_descriptor);
}

static void descriptors(void)
{
	check("descriptors", eat_descriptors);
}

static int make_event(long number)
{
	return eventfd(number, 0) < 0 ? -1 : 0;
}

static void eat_events(void)
{
	until_refused("events", LONG_MAX, make_event);
}

static void events(void)
{
	check("events", eat_events);
}

static int make_terminal(long number)
{
	(void)number;
	return open("/dev/ptmx", O_RDWR | O_NOCTTY) < 0 ? -1 : 0;
}

static void eat_terminals(void)
{
	until_refused("terminals", LONG_MAX, make_terminal);
}

static void terminals(void)
{
	check("terminals", eat_terminals);
}

static pthread_attr_t small_stack;

static int make_thread(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_attr_init(&small_stack) || pthread_attr_setstacksize(&small_stack, 1 << 14))
		return -1;
	errno = pthread_create(&thread, &small_stack, body, argument);
	return errno ? -1 : 0;
}

/* Waits for ever for very many things. */
static void *poll_much(void *argument)
{
	/* As many as may be waited for at a time. */
	struct rlimit files;
	MUST(getrlimit(RLIMIT_NOFILE, &files) == 0);
	int many = files.rlim_cur < 10000 ? (int)files.rlim_cur : 10000;
	struct pollfd *list = mmap(NULL, many * sizeof *list, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (list == MAP_FAILED)
		return NULL;
	for (int i = 0; i < many; i++)
		list[i] = (struct pollfd){.fd = (int)(intptr_t)argument, .events = POLLIN};
	if (poll(list, many, -1) != -1 || errno != ENOMEM)
		wrong("poll ended with %s", strerrorname_np(errno));
	return NULL;
}

static int make_poller(long number)
{
	static int event;

	if (number == 0)
		event = eventfd(0, 0);
	return make_thread(poll_much, (void *)(intptr_t)event);
}

static void eat_polls(void)
{
	struct rlimit files = {20000, 20000};

	setrlimit(RLIMIT_NOFILE, &files);
	until_refused("pollers", 40000, make_poller);
}

static void pollers(void)
{
	check("pollers", eat_polls);
}

/* Waits for ever, in a way of its own: for a signal, for time, for a word, for bytes, for a lock. */
static void *wait_long(void *argument)
{
	static _Atomic int word;
	struct timespec day = {86400, 0};
	int ends[2];
	char byte;

	switch ((intptr_t)argument % 4) {
	case 0:
		pause();
		break;
	case 1:
		nanosleep(&day, NULL);
		break;
	case 2:
		syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
		break;
	default:
		if (pipe(ends) || read(ends[0], &byte, 1))
			pause();
	}
	return argument;
}

static int make_waiter(long number)
{
	return make_thread(wait_long, (void *)(intptr_t)number);
}

static void eat_threads(void)
{
	until_refused("threads", 40000, make_waiter);
}

static void threads(void)
{
	check("threads", eat_threads);
}

static int make_zombie(long number)
{
	pid_t child = fork();

	(void)number;
	if (child == 0)
		_exit(0);
	return child < 0 ? -1 : 0;
}

static void eat_zombies(void)
{
	until_refused("zombies", 100000, make_zombie);
}

static void zombies(void)
{
	check("zombies", eat_zombies);
}

/* Reads a file of /proc to its end; gives the number of lines. */
static long lines_of(const char *path)
{
	static char text[1 << 16];
	int file = open(path, O_RDONLY);
	ssize_t length;
	long lines = 0;

	if (file < 0)
		return -1;
	while ((length = read(file, text, sizeof text)) > 0)
		for (ssize_t i = 0; i < length; i++)
			lines += text[i] == '\n';
	close(file);
	return length < 0 ? -1 : lines;
}

static void eat_areas(void)
{
	char *memory = mmap(NULL, 1ul << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long count = 0;

	if (memory == MAP_FAILED)
		return;
	while (mprotect(memory + 2 * count * PAGE, PAGE, PROT_READ) == 0 && count < 500000)
		count++;
	printf("%ld areas, then %s\n", count, strerrorname_np(errno));
	if (count > 70000)
		wrong("there is no limit of areas");
	/* Each is a line, and so is what lies between two. Where memory does not suffice for the text, reading it fails. */
	long lines = lines_of("/proc/self/maps");
	if (lines != -1 && lines < 2 * count - 1)
		wrong("%ld areas are told in %ld lines", count, lines);
	lines = lines_of("/proc/self/smaps_rollup");
	if (lines != -1 && lines < 10)
		wrong("smaps_rollup has %ld lines", lines);
}

static void areas(void)
{
	check("areas", eat_areas);
}

/* Signals that nobody takes, some with a value and some by kill(2), which may lose what it tells but never fails for that. */
static void eat_queues(void)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	uint64_t end = end_of_part();
	sigset_t blocked;
	long i = 0;

	sigfillset(&blocked);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	setrlimit(RLIMIT_SIGPENDING, &limit);
	while (i < 3000000 && (i % 1024 || now_ns() < end)) {
		union sigval value = {.sival_int = i};

		if (i % 2 ? kill(getpid(), SIGRTMIN + 2) : sigqueue(getpid(), SIGRTMIN + 1, value))
			break;
		i++;
	}
	printf("%ld signals, then %s\n", i, strerrorname_np(errno));
	if (i % 2)
		wrong("kill failed with %s", strerrorname_np(errno));
}

static void queues(void)
{
	check("queues", eat_queues);
}

/* execve with more than fits. */
static void arguments(void)
{
	enum { MANY = 600000 };
	char *large = malloc(1 << 22), **list = calloc(MANY + 1, sizeof *list);
	char *const none[] = {NULL};

	memset(large, 'a', 1 << 22);
	large[(1 << 22) - 1] = 0;
	for (int i = 0; i < MANY; i++)
		list[i] = "abcdefg";
	char *const one[] = {"shortage", large, NULL};
	FAILS(execve("/proc/self/exe", one, none), E2BIG);
	FAILS(execve("/proc/self/exe", none, one), E2BIG);
	FAILS(execve("/proc/self/exe", list, none), E2BIG);
	FAILS(execve("/proc/self/exe", list, list), E2BIG);
	large[131072] = 0;
	FAILS(execve("/proc/self/exe", one, none), E2BIG);
	FAILS(syscall(SYS_execve, "/proc/self/exe", 8, none), EFAULT);
	FAILS(syscall(SYS_execve, "/proc/self/exe", 0xffff800000000000, none), EFAULT);
	large[131071] = 0;
	pid_t child = fork();
	if (child == 0) {
		char *const longest[] = {"shortage", "--exit", large, NULL};

		execve("/proc/self/exe", longest, none);
		_exit(1);
	}
	int status = 0;
	MUST(waitpid(child, &status, 0) == child && status == 0x900);
	free(large);
	free(list);
}

/* Processes with as much of an environment as there may be, who hold it. */
static int make_environment(long number)
{
	enum { MANY = 40 };
	static char *list[MANY + 1], text[131072 - 1], none[] = "";
	char *const arguments[] = {"shortage", "--sleep", NULL};
	int ready[2];
	char byte;

	(void)number;
	memset(text, 'e', sizeof text - 1);
	for (int i = 0; i < MANY; i++)
		list[i] = i < 15 ? text : none;
	if (pipe2(ready, O_CLOEXEC))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		/* Nobody is left behind when the greedy one is killed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve("/proc/self/exe", arguments, list);
		_exit(1);
	}
	int error = errno;
	close(ready[1]);
	/* It has executed, or is gone, when nobody has the other end. */
	while (child > 0 && read(ready[0], &byte, 1) < 0)
		;
	close(ready[0]);
	errno = error;
	return child < 0 ? -1 : 0;
}

static void eat_environments(void)
{
	until_refused("environments", 2000, make_environment);
}

static void environments(void)
{
	check("environments", eat_environments);
}

static void eat_locks(void)
{
	int file = open("/tmp/locks", O_RDWR | O_CREAT, 0600);
	uint64_t end = end_of_part();
	long i = 0;

	for (; i < 200000 && now_ns() < end; i++) {
		struct flock lock = {.l_type = i % 2 ? F_RDLCK : F_WRLCK, .l_start = 3 * i, .l_len = 1};

		if (fcntl(file, F_SETLK, &lock)) {
			if (errno != ENOLCK && errno != ENOMEM)
				wrong("F_SETLK: %s", strerrorname_np(errno));
			break;
		}
	}
	printf("%ld locks\n", i);
}

static void locks(void)
{
	check("locks", eat_locks);
	unlink("/tmp/locks");
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"eater", eater},
		{"eaters", eaters},
		{"sleeper", sleeper},
		{"brink", brink},
		{"tables", tables},
		{"sparse", sparse},
		{"pipes", pipes},
		{"hoards", hoards},
		{"files", files, .superuser = 1},
		{"names", names},
		{"symlinks", symlinks},
		{"links", links},
		{"attributes", attributes},
		{"mounts", mounts, .superuser = 1},
		{"descriptors", descriptors},
		{"events", events},
		{"terminals", terminals},
		{"pollers", pollers},
		{"threads", threads},
		{"zombies", zombies},
		{"areas", areas},
		{"queues", queues},
		{"arguments", arguments},
		{"environments", environments},
		{"locks", locks},
	};

	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 9;
	if (argc > 1 && strcmp(argv[1], "--sleep") == 0)
		return pause();
	if (argc > 2)
		seconds = atof(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
