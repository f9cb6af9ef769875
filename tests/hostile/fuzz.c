/*
 * Random system calls with hostile arguments. Nothing they do may stop the system, and when it is over no memory may be
 * missing. The same seed makes the same calls.
 *
 * usage: fuzz [SEED [SECONDS [PROCESSES [user]]]]
 * SEED (1) begins the sequence, each process has its own from it. It goes on for SECONDS (5) in PROCESSES (4), as the
 * superuser, or with `user` as an ordinary user. A process that harms itself is replaced by one with the next seed.
 *
 * Calls that would only end the test are not made: reboot, kill and its kin of other processes, pause-like calls without an
 * end (an alarm ends the others), and what would change the mounts and the clock of the system that judges.
 */
#include "hostile.h"
#include <dirent.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

enum { CALLS = 470, ARENA = 16 * 4096 };

static char *arena, *read_only, *hole, *shared;
static const char *const names[] = {
	"/", ".", "..", "", "/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/proc/self/maps", "/proc/self/mem",
	"/proc/self/fd", "/proc/self/status", "/proc/meminfo", "/proc/self/environ", "a", "b", "c/d", "folder", "folder/x",
	"link", "loop", "pipe", "long/long/long", "/dev/ptmx", "/dev/kmsg", "/proc/1/stat", "/nowhere",
};

/* Calls that are not made at all. */
static int is_spared(long number)
{
	switch (number) {
	case SYS_reboot: case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo:
	case SYS_rt_tgsigqueueinfo: case SYS_pidfd_send_signal: case SYS_exit: case SYS_exit_group: case SYS_fork:
	case SYS_vfork: case SYS_clone: case SYS_clone3: case SYS_rt_sigreturn: case SYS_pause: case SYS_settimeofday:
	case SYS_clock_settime: case SYS_umount2: case SYS_chroot: case SYS_pivot_root: case SYS_vhangup: case SYS_setsid:
	case SYS_alarm: case SYS_setitimer: case SYS_munmap: case SYS_brk: case SYS_setgid: case SYS_setuid:
	case SYS_setpgid: case SYS_sethostname: case SYS_setdomainname: case SYS_rt_sigaction: case SYS_rt_sigprocmask:
	case SYS_rt_sigsuspend: case SYS_arch_prctl: case SYS_swapon: case SYS_kexec_load: case SYS_syslog: case SYS_acct:
	case SYS_sched_setscheduler: case SYS_sched_setparam: case SYS_mount: case SYS_move_mount:
	case SYS_chdir: case SYS_fchdir: case SYS_prctl: case SYS_set_tid_address: case SYS_quotactl:
	case SYS_adjtimex: case SYS_clock_adjtime: case SYS_execve: case SYS_execveat: case SYS_setresuid: case SYS_setreuid:
	case SYS_setresgid: case SYS_setregid: case SYS_setfsuid: case SYS_setfsgid: case SYS_capset: case SYS_prlimit64:
	case SYS_setrlimit: case SYS_set_robust_list: case SYS_ptrace: case SYS_mremap: case SYS_init_module:
	case SYS_finit_module: case SYS_delete_module: case SYS_seccomp: case SYS_unshare: case SYS_setns: case SYS_iopl:
	case SYS_ioperm: case SYS_modify_ldt: case SYS_personality: case SYS_mlockall: case SYS_rseq: case SYS_close_range:
		return 1;
	}
	return 0;
}

/* Of the calls above, those that are made with some care. */
static void careful(Random *random)
{
	pid_t child;

	switch (random_below(random, 9)) {
	case 0:
		child = fork();
		if (child == 0)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
		break;
	case 1:
		munmap(hole + random_below(random, 64) * PAGE, random_below(random, 8) * PAGE);
		break;
	case 2:
		mmap(hole + random_below(random, 64) * PAGE, (1 + random_below(random, 8)) * PAGE, random_below(random, 8),
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 3:
		mremap(hole + random_below(random, 64) * PAGE, random_below(random, 4) * PAGE,
		       random_below(random, 8) * PAGE, random_below(random, 2));
		break;
	case 4:
		sbrk((long)random_below(random, 64 * PAGE) - 32 * (long)PAGE);
		break;
	case 5: {
		struct itimerval soon = {{0, random_below(random, 3000)}, {0, random_below(random, 3000)}};
		setitimer(ITIMER_REAL + random_below(random, 3), &soon, NULL);
		break;
	}
	case 6: {
		struct sigaction action;
		memset(&action, 0, sizeof action);
		action.sa_handler = random_below(random, 2) ? SIG_IGN : SIG_DFL;
		sigaction(SIGRTMIN + random_below(random, 10), &action, NULL);
		break;
	}
	case 7:
		syscall(SYS_prctl, random_below(random, 80), random_next(random), random_next(random), 0, 0);
		break;
	default:
		syscall(SYS_rt_sigprocmask, random_below(random, 5), hole, arena + random_below(random, ARENA),
			random_below(random, 3) * 8);
	}
}

static uint64_t hostile_number(Random *random)
{
	static const uint64_t special[] = {
		0, 1, 2, 3, 7, 8, 16, 255, 4095, 4096, 4097, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffff, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0x7fffffffffffffff, 0x8000000000000000,
		~0ul, ~1ul, -4096ul, -100ul /* AT_FDCWD */,
	};

	if (random_below(random, 6))
		return special[random_below(random, COUNT(special))];
	return random_next(random) >> random_below(random, 64);
}

static uint64_t pointer(Random *random)
{
	switch (random_below(random, 10)) {
	case 0:
		return (uintptr_t)read_only + random_below(random, PAGE);
	case 1:
		return (uintptr_t)hole + random_below(random, 64 * PAGE);
	case 2:
		return (uintptr_t)arena + ARENA - random_below(random, 64);
	case 3:
		return (uintptr_t)shared + random_below(random, PAGE);
	case 4:
		return hostile_number(random);
	case 5: case 6: {
		/* A path. */
		char *place = arena + random_below(random, ARENA - 128);
		strcpy(place, names[random_below(random, COUNT(names))]);
		return (uintptr_t)place;
	}
	default:
		return (uintptr_t)arena + random_below(random, ARENA);
	}
}

/* Fills the arena with what kernels like to find: numbers, pointers to the arena, lengths. */
static void sow(Random *random)
{
	uint64_t *words = (uint64_t *)arena;

	for (int i = 0; i < 64; i++) {
		uint64_t at = random_below(random, ARENA / 8);

		words[at] = random_below(random, 2) ? pointer(random) : hostile_number(random);
	}
}

static uint64_t argument(Random *random)
{
	switch (random_below(random, 4)) {
	case 0:
		return pointer(random);
	case 1:
		/* A descriptor, or a small number, flags. */
		return random_below(random, 2) ? 3 + random_below(random, 12) : 1ul << random_below(random, 32);
	case 2:
		return hostile_number(random);
	default:
		return random_below(random, 2) ? pointer(random) : random_below(random, 64);
	}
}

static void nothing(int number)
{
	(void)number;
}

static void prepare(uint64_t seed)
{
	char folder[64];
	struct sigaction action = {.sa_handler = nothing};
	struct rlimit limit = {64, 64}, space = {256 << 20, 256 << 20}, size = {1 << 20, 1 << 20}, children = {300, 300};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGVTALRM, &action, NULL);
	sigaction(SIGPROF, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &limit);
	setrlimit(RLIMIT_AS, &space);
	setrlimit(RLIMIT_FSIZE, &size);
	setrlimit(RLIMIT_NPROC, &children);
	snprintf(folder, sizeof folder, "/%lu", seed);
	if ((mkdir(folder, 0777) && errno != EEXIST) || chdir(folder))
		_exit(3);
	mkdir("folder", 0777);
	close(open("a", O_CREAT | O_RDWR, 0666));
	if (symlink("a", "link") || symlink("loop", "loop") || mkfifo("pipe", 0666))
		(void)seed;
	/* Descriptors of every kind, from 3 on. */
	int ends[2];
	open("a", O_RDWR);
	open(".", O_RDONLY | O_DIRECTORY);
	if (pipe2(ends, O_NONBLOCK))
		_exit(3);
	open("/dev/zero", O_RDWR);
	open("/dev/null", O_RDWR);
	open("pipe", O_RDWR | O_NONBLOCK);
	open("/dev/ptmx", O_RDWR | O_NONBLOCK | O_NOCTTY);
	open("/proc/self/maps", O_RDONLY);
	open("/proc/self/mem", O_RDWR);
	open("a", O_PATH);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	arena = mmap(NULL, ARENA + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	mprotect(arena + ARENA, PAGE, PROT_NONE);
	read_only = mmap(NULL, PAGE, PROT_READ, flags, -1, 0);
	hole = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 64; i += 3)
		mprotect(hole + i * PAGE, PAGE, PROT_NONE);
}

static _Atomic unsigned long *made;

static void watch(uint64_t seed, long number, uint64_t *arguments)
{
	/* FUZZ_TRACE=1 writes each call before it is made, to find the one that stops the system. */
	fprintf(stderr, "%lu: %ld(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", seed, number, arguments[0], arguments[1],
		arguments[2], arguments[3], arguments[4], arguments[5]);
}

static void make_calls(uint64_t seed, uint64_t end)
{
	Random random = random_from(seed);
	int is_watched = getenv("FUZZ_TRACE") != NULL;

	prepare(seed);
	for (unsigned long count = 0; now_ns() < end && count < 200000; count++) {
		struct itimerval limit = {{0, 20000}, {0, 20000}};

		if (count % 16 == 0)
			sow(&random);
		if (random_below(&random, 24) == 0) {
			careful(&random);
			continue;
		}
		long number = random_below(&random, CALLS);
		uint64_t arguments[6];
		for (int i = 0; i < 6; i++)
			arguments[i] = argument(&random);
		if (is_spared(number))
			continue;
		/* These want a time: a short one. */
		if (number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_futex || number == SYS_wait4)
			setitimer(ITIMER_REAL, &limit, NULL);
		else if (count % 8 == 0)
			setitimer(ITIMER_REAL, &limit, NULL);
		if (is_watched)
			watch(seed, number, arguments);
		syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
		atomic_fetch_add(made, 1);
	}
	_exit(0);
}

/* Removes a folder with all that is below it. Symbolic links are removed, never followed: they lead out of it. */
static void clear_away(const char *path)
{
	int opened = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *folder = opened < 0 ? NULL : fdopendir(opened);
	struct dirent *entry;
	char below[PATH_MAX];

	while (folder && (entry = readdir(folder))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		if (unlink(below) && (errno == EISDIR || errno == EPERM))
			clear_away(below);
	}
	if (folder)
		closedir(folder);
	rmdir(path);
}

/* Unmounts the cage's /proc. A child whose parent did not wait for it may still be ending, with files of it open. */
static int unmount_proc(void)
{
	for (int tries = 0; umount("/tmp/fuzz/proc"); tries++) {
		if (errno != EBUSY || tries == 3000)
			return MUST(!"the cage's /proc can be unmounted");
		sleep_ms(10);
	}
	return 1;
}

/*
 * A root of its own, so that the superuser's calls harm no file of the system that judges: it may well remove or change every
 * one it can name.
 */
static void build_cage(void)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"kmsg", 1, 11}, {"tty", 5, 0}, {"ptmx", 5, 2}};

	umask(0);
	mkdir("/tmp/fuzz", 0777);
	mkdir("/tmp/fuzz/dev", 0777);
	mkdir("/tmp/fuzz/proc", 0755);
	MUST(mount("proc", "/tmp/fuzz/proc", "proc", 0, NULL) == 0);
	for (size_t i = 0; i < COUNT(devices); i++) {
		char path[64];

		snprintf(path, sizeof path, "/tmp/fuzz/dev/%s", devices[i].path);
		MUST(mknod(path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)) == 0);
	}
}

/* Starts one that makes calls until `end`. */
static pid_t start(uint64_t seed, uint64_t end, int as_user)
{
	pid_t child = fork();

	if (child)
		return child;
	setpgid(0, 0);
	if (!MUST(chroot("/tmp/fuzz") == 0))
		_exit(4);
	int null = open("/dev/null", O_RDWR);
	if (as_user && !(MUST(setgroups(0, NULL) == 0) && MUST(setgid(4321) == 0) && MUST(setuid(4321) == 0)))
		_exit(4);
	dup2(null, 0);
	if (!getenv("FUZZ_TRACE")) {
		dup2(null, 1);
		dup2(null, 2);
	}
	close(null);
	make_calls(seed, end);
	_exit(0);
}

/* Collects whoever has ended; says which of `children` it was, -1 for a stranger's child and -2 for nobody. */
static int collect_one(pid_t *children, int count)
{
	int status = 0;
	pid_t child = waitpid(-1, &status, WNOHANG);

	if (child <= 0)
		return -2;
	for (int i = 0; i < count; i++)
		if (children[i] == child) {
			if (WIFEXITED(status) && WEXITSTATUS(status) > 2)
				wrong("a process could not begin: %d", WEXITSTATUS(status));
			children[i] = 0;
			return i;
		}
	return -1;
}

static void one_round(uint64_t seed, double seconds, int processes, int as_user)
{
	uint64_t first = seed, end = now_ns() + (uint64_t)(seconds * 1e9), late = 0;
	pid_t *children = calloc(processes, sizeof *children);
	uint64_t *seeds = calloc(processes, sizeof *seeds);

	build_cage();
	for (;;) {
		int running = 0;

		for (int i = 0; i < processes; i++) {
			if (children[i] == 0 && now_ns() < end) {
				seeds[i] = seed;
				children[i] = start(seed++, end, as_user);
				MUST(children[i] > 0);
			}
			running += children[i] > 0;
		}
		if (running == 0)
			break;
		/* Some sleep by now in a call without an end: that is theirs to do, but a signal ends it. */
		if (late == 0 && now_ns() > end + 1000000000) {
			late = now_ns();
			for (int i = 0; i < processes; i++)
				if (children[i] > 0)
					kill(children[i], SIGKILL);
		}
		if (late && now_ns() > late + 30000000000ull) {
			for (int i = 0; i < processes; i++)
				if (children[i] > 0)
					wrong("process %d of seed %lu cannot be killed", children[i], seeds[i]);
			break;
		}
		if (collect_one(children, processes) == -2)
			sleep_ms(5);
	}
	if (unmount_proc())
		clear_away("/tmp/fuzz");
	printf("%lu processes\n", seed - first);
	free(children);
	free(seeds);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	double seconds = argc > 2 ? atof(argv[2]) : 5;
	int processes = argc > 3 ? atoi(argv[3]) : 4;
	int as_user = argc > 4 && strcmp(argv[4], "user") == 0;

	made = shared_memory(PAGE);
	one_round(seed + 1000000, 0.3, processes, as_user);
	Memory before = memory_now();
	one_round(seed, seconds, processes, as_user);
	printf("soak: %lu calls\n", (unsigned long)*made);
	memory_is_back("fuzz", before, 1024);
	return verdict();
}
