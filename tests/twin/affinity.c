/*
 * sched_setaffinity(2) moves what runs: the caller before the call returns, others, running or waiting for their turn,
 * likewise. And no CPU idles while somebody waits who may have it. With one CPU there is nothing to move, and the same is
 * printed.
 */
#include "twin.h"
#include <pthread.h>
#include <sched.h>

static int cpus;

static int here(void)
{
	unsigned cpu = 0;

	syscall(SYS_getcpu, &cpu, NULL, NULL);
	return cpu;
}

static void only(int pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(pid, sizeof set, &set))
		printf("sched_setaffinity: %s\n", strerrorname_np(errno));
}

static long now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void spin_ms(long milliseconds)
{
	for (long end = now_ms() + milliseconds; now_ms() < end;)
		;
}

/* The CPU that /proc/PID/stat names in field 39. */
static int cpu_of(int pid)
{
	char path[64], text[1024];

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int file = open(path, O_RDONLY);
	ssize_t length = read(file, text, sizeof text - 1);
	close(file);
	if (length <= 0)
		return -1;
	text[length] = 0;
	char *at = strrchr(text, ')');
	/* A space stands before each field from the third on. */
	for (int i = 3; i <= 39 && at; i++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at) : -1;
}

static pid_t busy(int cpu)
{
	pid_t child = fork();

	if (child == 0)
		for (;;)
			__asm__ volatile("pause");
	only(child, cpu);
	return child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void the_caller(void)
{
	int wrong = 0;

	for (int i = 0; i < 20; i++) {
		only(0, i % cpus);
		wrong += here() != i % cpus;
		if (i % 10 == 0)
			spin_ms(3);
		wrong += here() != i % cpus;
	}
	printf("the caller: %d times elsewhere\n", wrong);
}

/* A process that counts how often it finds itself outside of what it is told to keep to. */
static void another(const char *what, int crowd)
{
	struct { volatile int allowed, elsewhere, looks; } *shared =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t others[8];
	int wrong = 0;

	shared->allowed = -1;
	pid_t child = fork();
	if (child == 0)
		for (;;) {
			int allowed = shared->allowed, cpu = here();

			if (allowed >= 0 && allowed == shared->allowed && cpu != allowed)
				shared->elsewhere++;
			shared->looks++;
		}
	for (int i = 0; i < crowd; i++)
		others[i] = busy(i % cpus);
	for (int i = 0; i < 8; i++) {
		int cpu = i % cpus;

		shared->allowed = -1;
		only(child, cpu);
		/* Running or not, it is where it may be. */
		wrong += cpu_of(child) != cpu;
		shared->allowed = cpu;
		for (int looks = shared->looks; shared->looks < looks + 2;)
			sleep_ms(1);
	}
	printf("%s: %d times elsewhere by its own looking, %d by /proc\n", what, shared->elsewhere, wrong);
	end(child);
	for (int i = 0; i < crowd; i++)
		end(others[i]);
	munmap((void *)shared, PAGE);
}

static void *thread_looks(void *tid)
{
	*(volatile int *)tid = syscall(SYS_gettid);
	for (;;)
		__asm__ volatile("pause");
	return NULL;
}

static void a_thread(void)
{
	volatile int tid = 0;
	pthread_t thread;
	int wrong = 0;
	cpu_set_t set;

	pthread_create(&thread, NULL, thread_looks, (void *)&tid);
	while (!tid)
		sched_yield();
	for (int i = 0; i < 20; i++) {
		only(tid, i % cpus);
		wrong += cpu_of(tid) != i % cpus;
	}
	sched_getaffinity(0, sizeof set, &set);
	printf("a thread: %d times elsewhere; the others keep %s\n", wrong, CPU_COUNT(&set) == 1 ? "theirs" : "none");
	fflush(stdout);
}

/* Waits until a condition holds at last. The bound is far beyond what any machine needs. */
#define AT_LAST(what, condition)                                                                                       \
	do {                                                                                                           \
		long limit_ = now_ms() + 20000;                                                                        \
		while (!(condition) && now_ms() < limit_)                                                              \
			sleep_ms(10);                                                                                  \
		printf("%s: %s\n", what, (condition) ? "yes" : "no");                                                  \
	} while (0)

/*
 * Many are bound to the first CPU, two that are bound to nothing share another one: when the last CPU falls idle, one of
 * the two comes, though most wait where nobody may leave.
 */
static void thieves(void)
{
	pid_t bound[3], free_[2];
	int last = cpus - 1;

	for (int i = 0; i < 3; i++)
		bound[i] = busy(0);
	only(0, 0);
	/* Both begin on one CPU, and are then set free. */
	pid_t blocker = busy(last);
	for (int i = 0; i < 2; i++)
		free_[i] = busy(cpus > 2 ? 1 : 0);
	pid_t fill[8];
	int filled = 0;
	for (int cpu = 2; cpu < last; cpu++)
		fill[filled++] = busy(cpu);
	sleep_ms(30);
	cpu_set_t all;
	CPU_ZERO(&all);
	for (int cpu = 0; cpu < cpus; cpu++)
		CPU_SET(cpu, &all);
	for (int i = 0; i < 2; i++)
		sched_setaffinity(free_[i], sizeof all, &all);
	sleep_ms(30);
	end(blocker);
	/* The last CPU runs one of them soon. */
	AT_LAST("the idle CPU helps", cpu_of(free_[0]) == last || cpu_of(free_[1]) == last);
	for (int i = 0; i < 2; i++)
		end(free_[i]);
	for (int i = 0; i < 3; i++)
		end(bound[i]);
	while (filled)
		end(fill[--filled]);
}

/* Somebody waits behind others on the first CPU, and is then allowed one that idles. */
static void set_free(void)
{
	pid_t bound[3];
	int last = cpus - 1;

	only(0, 0);
	for (int i = 0; i < 3; i++)
		bound[i] = busy(0);
	pid_t freed = busy(0);
	sleep_ms(30);
	cpu_set_t both;
	CPU_ZERO(&both);
	CPU_SET(0, &both);
	CPU_SET(last, &both);
	sched_setaffinity(freed, sizeof both, &both);
	AT_LAST("who is set free goes", cpu_of(freed) == last);
	end(freed);
	for (int i = 0; i < 3; i++)
		end(bound[i]);
}

int main(void)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof set, &set);
	cpus = CPU_COUNT(&set);
	alarm(60);
	the_caller();
	only(0, 0);
	another("another", 0);
	another("another among many", 3);
	CPU_ZERO(&set);
	TRY(sched_setaffinity(0, sizeof set, &set));
	TRY(sched_setaffinity(1 << 20, sizeof set, &set));
	TRY(sched_setaffinity(0, 0, &set));
	TRY(sched_setaffinity(0, sizeof set, (void *)8));
	thieves();
	set_free();
	a_thread();
	_exit(0);
}
