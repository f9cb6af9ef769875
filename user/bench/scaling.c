/*
 * What two processors do of an operation in the time in which one does it once: workers that share nothing, a directory, or
 * an address space.
 *
 * Each row is run in turn by the workers of one processor and by those of two, in several rounds; a worker is bound to its
 * processor. The figures are operations a second, the best round of each. The row's workers are processes, or threads of one.
 *
 * Output: a line "row<tab>NAME<tab>ONE<tab>TWO" for each row, then "end". Arguments: the rows to run; none runs all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define PLACE "/tmp/scaling"

enum { MOST_WORKERS = 4, ROUNDS = 5, ROUND_MILLISECONDS = 100, FRESH = 512 };

/* What a worker works on. */
struct worker {
	int number;
	int processor;
	const struct row *row;
	char own[64];		/* a file nobody else uses, in a directory nobody else uses */
	char beside[64];	/* a file nobody else uses, in the directory of all */
	int pipe[2];
	char *pages;
	int next_page;
};

static struct shared {
	atomic_int ready, go, stop;
	atomic_long operations;
} *shared;

/* --- operations ---------------------------------------------------------------------------------------------------- */

static void ask_parent(struct worker *worker)
{
	(void)worker;
	syscall(SYS_getppid);
}

static void stat_shared(struct worker *worker)
{
	struct stat status;

	(void)worker;
	if (stat(PLACE "/file", &status))
		fail("stat");
}

static void open_shared(struct worker *worker)
{
	int file = open(PLACE "/file", O_RDONLY);

	(void)worker;
	if (file < 0)
		fail("open");
	close(file);
}

static void create_unlink(const char *path)
{
	int file = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (file < 0)
		fail("create");
	close(file);
	if (unlink(path))
		fail("unlink");
}

static void create_in_one(struct worker *worker)
{
	create_unlink(worker->beside);
}

static void create_in_many(struct worker *worker)
{
	create_unlink(worker->own);
}

static void fault(struct worker *worker)
{
	if (worker->next_page == FRESH) {
		if (madvise(worker->pages, (size_t)FRESH * PAGE, MADV_DONTNEED))
			fail("madvise");
		worker->next_page = 0;
	}
	worker->pages[(size_t)worker->next_page++ * PAGE] = 1;
}

static void map_touch_unmap(struct worker *worker)
{
	char *area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)worker;
	if (area == MAP_FAILED)
		fail("mmap");
	area[0] = 1;
	munmap(area, 16 * PAGE);
}

static void fork_wait(struct worker *worker)
{
	pid_t child = fork();

	(void)worker;
	if (child < 0)
		fail("fork");
	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
}

static void *return_at_once(void *nothing)
{
	return nothing;
}

static void create_join(struct worker *worker)
{
	pthread_t thread;

	(void)worker;
	if (pthread_create(&thread, NULL, return_at_once, NULL))
		fail("pthread_create");
	pthread_join(thread, NULL);
}

static void signal_self(struct worker *worker)
{
	(void)worker;
	if (kill(getpid(), 0))
		fail("kill");
}

static void write_read(struct worker *worker)
{
	char byte = 0;

	if (write(worker->pipe[1], &byte, 1) != 1 || read(worker->pipe[0], &byte, 1) != 1)
		fail("pipe");
}

static void wake_nobody(struct worker *worker)
{
	if (syscall(SYS_futex, &worker->number, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0))
		fail("futex");
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static const struct row {
	const char *name;
	void (*operation)(struct worker *worker);
	int threads;		/* of one process, instead of processes */
	int per_processor;	/* workers */
} rows[] = {
	{ "getppid", ask_parent, 0, 1 },
	{ "stat of one file", stat_shared, 0, 1 },
	{ "open+close of one file", open_shared, 0, 1 },
	{ "open+close of one file, threads", open_shared, 1, 1 },
	{ "create+unlink in one directory", create_in_one, 0, 1 },
	{ "create+unlink in many directories", create_in_many, 0, 1 },
	{ "page fault", fault, 0, 1 },
	{ "page fault, threads", fault, 1, 1 },
	{ "mmap+touch+munmap", map_touch_unmap, 0, 1 },
	{ "mmap+touch+munmap, threads", map_touch_unmap, 1, 1 },
	{ "mmap+touch+munmap, two threads a processor", map_touch_unmap, 1, 2 },
	{ "fork+exit", fork_wait, 0, 1 },
	{ "thread create+join", create_join, 0, 1 },
	{ "kill", signal_self, 0, 1 },
	{ "pipe write+read", write_read, 0, 1 },
	{ "futex wake", wake_nobody, 0, 1 },
	{ "futex wake, threads", wake_nobody, 1, 1 },
};

static void prepare(struct worker *worker)
{
	cpu_set_t set;
	char folder[32];

	CPU_ZERO(&set);
	CPU_SET(worker->processor, &set);
	if (sched_setaffinity(0, sizeof set, &set))
		fail("sched_setaffinity");
	snprintf(folder, sizeof folder, PLACE "/%d", worker->number);
	mkdir(folder, 0755);
	snprintf(worker->own, sizeof worker->own, "%s/new", folder);
	snprintf(worker->beside, sizeof worker->beside, PLACE "/new%d", worker->number);
	worker->pages = mmap(NULL, (size_t)FRESH * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (worker->pages == MAP_FAILED || pipe(worker->pipe))
		fail("mmap, pipe");
	madvise(worker->pages, (size_t)FRESH * PAGE, MADV_NOHUGEPAGE);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	long operations = 0;

	prepare(worker);
	worker->row->operation(worker);
	shared->ready++;
	while (!shared->go)
		sched_yield();
	while (!shared->stop) {
		worker->row->operation(worker);
		operations++;
	}
	shared->operations += operations;
	return NULL;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Lets the workers that have been started go on for one round; they end by themselves. */
static double take_time(int workers)
{
	double begin;

	while (shared->ready < workers)
		usleep(1000);
	begin = now();
	shared->go = 1;
	usleep(ROUND_MILLISECONDS * 1000);
	shared->stop = 1;
	return now() - begin;
}

static double round_of_threads(struct worker *workers, int count)
{
	pthread_t threads[MOST_WORKERS];
	double seconds;

	for (int number = 0; number < count; number++)
		if (pthread_create(&threads[number], NULL, work, &workers[number]))
			fail("pthread_create");
	seconds = take_time(count);
	for (int number = 0; number < count; number++)
		pthread_join(threads[number], NULL);
	for (int number = 0; number < count; number++) {
		munmap(workers[number].pages, (size_t)FRESH * PAGE);
		close(workers[number].pipe[0]);
		close(workers[number].pipe[1]);
	}
	return shared->operations / seconds;
}

static double round_of_processes(struct worker *workers, int count)
{
	double seconds;

	for (int number = 0; number < count; number++) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child == 0) {
			work(&workers[number]);
			_exit(0);
		}
	}
	seconds = take_time(count);
	while (wait(NULL) > 0)
		;
	return shared->operations / seconds;
}

/* Operations a second of the workers of so many processors. */
static double run(const struct row *row, int processors)
{
	struct worker workers[MOST_WORKERS] = { 0 };
	int count = processors * row->per_processor;

	for (int number = 0; number < count; number++) {
		workers[number].number = number;
		workers[number].processor = number % processors;
		workers[number].row = row;
	}
	memset(shared, 0, sizeof *shared);
	return row->threads ? round_of_threads(workers, count) : round_of_processes(workers, count);
}

static void measure(const struct row *row)
{
	double best[2] = { 0, 0 };

	for (int round = 0; round < ROUNDS; round++)
		for (int processors = 1; processors <= 2; processors++) {
			double figure = run(row, processors);

			if (figure > best[processors - 1])
				best[processors - 1] = figure;
		}
	printf("row\t%s\t%.0f\t%.0f\n", row->name, best[0], best[1]);
	fflush(stdout);
}

static int wanted(const char *name, int count, char **names)
{
	for (int index = 0; index < count; index++)
		if (strcmp(name, names[index]) == 0)
			return 1;
	return count == 0;
}

int main(int argc, char **argv)
{
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mkdir(PLACE, 0755);
	if (shared == MAP_FAILED || mount("scaling", PLACE, "tmpfs", 0, NULL))
		fail("mmap, mount");
	close(open(PLACE "/file", O_CREAT | O_WRONLY, 0644));
	for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++)
		if (wanted(rows[index].name, argc - 1, argv + 1))
			measure(&rows[index]);
	say_end();
	return 0;
}
