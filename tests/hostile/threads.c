/*
 * Threads and everything that may happen to a process while several of them run.
 *
 * usage: threads [PART [SECONDS]]
 * PART: many, locks, conditions, requeue, exec (execve while threads run), exit (exit_group while they run), killed,
 * churn (made and ended all the time), robust, signals, or all. SECONDS (2) each.
 */
#include "hostile.h"
#include <linux/futex.h>
#include <sched.h>

static double seconds = 2;

static int is_over(uint64_t end)
{
	return now_ns() > end;
}

static uint64_t end_of_part(void)
{
	return now_ns() + (uint64_t)(seconds * 1e9);
}

static void *sum_up(void *argument)
{
	uintptr_t sum = 0;

	for (uintptr_t i = 0; i < 1000; i++)
		sum += i * (uintptr_t)argument;
	return (void *)sum;
}

/* Three hundred at once. */
static void many(void)
{
	pthread_t all[300];

	for (uintptr_t i = 0; i < COUNT(all); i++)
		MUST((errno = pthread_create(&all[i], NULL, sum_up, (void *)i)) == 0);
	for (uintptr_t i = 0; i < COUNT(all); i++) {
		void *result = NULL;

		MUST((errno = pthread_join(all[i], &result)) == 0 && result == (void *)(i * 499500));
	}
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t deadline;
static unsigned long guarded, guarded_too;

static void *lock_and_count(void *argument)
{
	unsigned long own = 0;

	(void)argument;
	do {
		pthread_mutex_lock(&mutex);
		guarded++;
		if (own % 64 == 0)
			sched_yield();
		guarded_too++;
		if (guarded != guarded_too)
			wrong("two threads hold one mutex");
		pthread_mutex_unlock(&mutex);
		own++;
	} while (!is_over(deadline));
	return (void *)own;
}

static void locks(void)
{
	pthread_t all[16];
	unsigned long sum = 0;

	guarded = guarded_too = 0;
	deadline = end_of_part();
	for (size_t i = 0; i < COUNT(all); i++)
		pthread_create(&all[i], NULL, lock_and_count, NULL);
	for (size_t i = 0; i < COUNT(all); i++) {
		void *own;

		pthread_join(all[i], &own);
		sum += (unsigned long)own;
	}
	printf("%lu times locked\n", sum);
	MUST(sum == guarded && sum > 0);
}

static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static unsigned long queue[8], queued, produced, consumed, sum_in, sum_out;
static int closing;

static void *produce(void *argument)
{
	Random random = random_from((uintptr_t)argument);

	do {
		unsigned long item = random_below(&random, 1000);

		pthread_mutex_lock(&mutex);
		while (queued == COUNT(queue))
			pthread_cond_wait(&emptied, &mutex);
		queue[queued++] = item;
		produced++;
		sum_in += item;
		pthread_cond_signal(&filled);
		pthread_mutex_unlock(&mutex);
	} while (!is_over(deadline));
	return NULL;
}

static void *consume(void *argument)
{
	(void)argument;
	pthread_mutex_lock(&mutex);
	for (;;) {
		while (queued == 0 && !closing) {
			struct timespec soon;

			clock_gettime(CLOCK_REALTIME, &soon);
			soon.tv_nsec += 5000000;
			if (soon.tv_nsec >= 1000000000)
				soon.tv_sec++, soon.tv_nsec -= 1000000000;
			pthread_cond_timedwait(&filled, &mutex, &soon);
		}
		if (queued == 0)
			break;
		sum_out += queue[--queued];
		consumed++;
		pthread_cond_broadcast(&emptied);
	}
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static void conditions(void)
{
	pthread_t producers[6], consumers[6];

	queued = produced = consumed = sum_in = sum_out = closing = 0;
	deadline = end_of_part();
	for (uintptr_t i = 0; i < 6; i++) {
		pthread_create(&producers[i], NULL, produce, (void *)i);
		pthread_create(&consumers[i], NULL, consume, NULL);
	}
	for (int i = 0; i < 6; i++)
		pthread_join(producers[i], NULL);
	pthread_mutex_lock(&mutex);
	closing = 1;
	pthread_cond_broadcast(&filled);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < 6; i++)
		pthread_join(consumers[i], NULL);
	printf("%lu items\n", consumed);
	MUST(produced == consumed && sum_in == sum_out && produced > 0);
}

static uint32_t words[2];
static _Atomic unsigned woken;

static long futex(uint32_t *word, int operation, uint32_t value, uintptr_t more, uint32_t *other, uint32_t third)
{
	return syscall(SYS_futex, word, operation, value, more, other, third);
}

static void *wait_for_word(void *argument)
{
	(void)argument;
	if (futex(&words[0], FUTEX_WAIT, 0, 0, NULL, 0) == 0)
		atomic_fetch_add(&woken, 1);
	return NULL;
}

/* Waiters are moved from one word to another, and none is lost on the way. */
static void requeue(void)
{
	for (int round = 0; round < 20 * seconds; round++) {
		pthread_t all[20];
		long total = 0;

		woken = 0;
		for (size_t i = 0; i < COUNT(all); i++)
			pthread_create(&all[i], NULL, wait_for_word, NULL);
		uint64_t start = now_ns();
		while (total < (long)COUNT(all) && now_ns() - start < 20000000000ull) {
			long moved = futex(&words[0], FUTEX_CMP_REQUEUE, 1, 100, &words[1], 0);

			if (moved < 0)
				wrong("requeue: %s", strerrorname_np(errno));
			/* One is woken, the rest are moved; then all that were moved are woken. */
			long after = futex(&words[1], FUTEX_WAKE, 100, 0, NULL, 0);
			if (after != (moved > 0 ? moved - 1 : 0))
				wrong("%ld were woken or moved, then %ld were woken", moved, after);
			total += moved;
			sched_yield();
		}
		for (size_t i = 0; i < COUNT(all); i++)
			pthread_join(all[i], NULL);
		MUST(total == COUNT(all) && woken == COUNT(all));
	}
}

__attribute__((noreturn)) static void *spin(void *argument)
{
	for (;;)
		(*(volatile unsigned long *)argument)++;
}

__attribute__((noreturn)) static void *sleep_long(void *argument)
{
	(void)argument;
	for (;;)
		pause();
}

__attribute__((noreturn)) static void *call_often(void *argument)
{
	(void)argument;
	for (;;) {
		char *memory = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int file = open("/proc/self/status", O_RDONLY);
		char text[100];

		if (memory != MAP_FAILED)
			memory[PAGE] = 1;
		if (read(file, text, sizeof text) < 0)
			sched_yield();
		close(file);
		munmap(memory, 8 * PAGE);
	}
}

__attribute__((noreturn)) static void *fork_often(void *argument)
{
	(void)argument;
	for (;;) {
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
}

static void start_company(void)
{
	static unsigned long count[2];
	pthread_t thread;

	pthread_create(&thread, NULL, spin, &count[0]);
	pthread_create(&thread, NULL, spin, &count[1]);
	pthread_create(&thread, NULL, sleep_long, NULL);
	pthread_create(&thread, NULL, call_often, NULL);
	pthread_create(&thread, NULL, call_often, NULL);
	pthread_create(&thread, NULL, fork_often, NULL);
}

static void *execute(void *argument)
{
	char *const arguments[] = {"threads", "--exit", NULL};

	(void)argument;
	execve("/proc/self/exe", arguments, environ);
	return NULL;
}

/* execve by the leader or another thread, and by two at once: the process keeps its number, the others are gone. */
static void exec_among_threads(void)
{
	uint64_t end = end_of_part();
	int rounds = 0;

	for (; !is_over(end); rounds++) {
		pid_t child = fork();

		if (child == 0) {
			pthread_t thread;

			start_company();
			if (rounds % 3)
				pthread_create(&thread, NULL, execute, NULL);
			if (rounds % 3 == 2)
				pthread_create(&thread, NULL, execute, NULL);
			if (rounds % 3 == 0)
				execute(NULL);
			pause();
			_exit(1);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 9)
			wrong("execve among threads: status %#x", status);
	}
	printf("%d rounds\n", rounds);
}

static void *exit_soon(void *argument)
{
	exit((int)(uintptr_t)argument);
}

/* Every thread ends the process at once. */
static void exit_among_threads(void)
{
	uint64_t end = end_of_part();
	int rounds = 0;

	for (; !is_over(end); rounds++) {
		pid_t child = fork();

		if (child == 0) {
			pthread_t thread;

			if (rounds % 2)
				start_company();
			for (uintptr_t i = 0; i < 8; i++)
				pthread_create(&thread, NULL, exit_soon, (void *)(i + 10));
			if (rounds % 3 == 0)
				syscall(SYS_exit, 77);
			syscall(SYS_exit_group, 20);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child);
		if (!WIFEXITED(status) || WEXITSTATUS(status) < 10 || WEXITSTATUS(status) > 20)
			wrong("exit among threads: status %#x", status);
	}
	printf("%d rounds\n", rounds);
}

/* A process with threads is killed from outside at any moment. */
static void killed(void)
{
	uint64_t end = end_of_part();
	Random random = random_from(1);
	int rounds = 0;

	for (; !is_over(end); rounds++) {
		pid_t child = fork();

		if (child == 0) {
			start_company();
			pause();
		}
		usleep(random_below(&random, 20000));
		if (rounds % 2) {
			kill(child, SIGSTOP);
			kill(child, SIGCONT);
		}
		MUST(kill(child, SIGKILL) == 0);
		int status = 0;
		MUST(waitpid(child, &status, 0) == child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			wrong("killed: status %#x", status);
	}
	printf("%d rounds\n", rounds);
}

static _Atomic unsigned long made;

static void *make_another(void *argument)
{
	while (!is_over(deadline)) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, sum_up, argument))
			continue;
		if (atomic_fetch_add(&made, 1) % 2)
			pthread_detach(thread);
		else
			pthread_join(thread, NULL);
	}
	return NULL;
}

static void churn(void)
{
	pthread_t all[8];
	Memory before = memory_now();

	made = 0;
	deadline = end_of_part();
	for (uintptr_t i = 0; i < COUNT(all); i++)
		pthread_create(&all[i], NULL, make_another, (void *)i);
	for (size_t i = 0; i < COUNT(all); i++)
		pthread_join(all[i], NULL);
	printf("%lu threads\n", (unsigned long)made);
	memory_is_back("churn", before, 2048);
}

static pthread_mutex_t *robust_mutex;

static void *lock_and_die(void *argument)
{
	(void)argument;
	int error = pthread_mutex_lock(robust_mutex);
	if (error == EOWNERDEAD)
		pthread_mutex_consistent(robust_mutex);
	else if (error)
		wrong("robust mutex: %s", strerrorname_np(error));
	return NULL;
}

/* A thread, or a process, that ends with a robust mutex locked hands it on. */
static void robust(void)
{
	pthread_mutexattr_t attributes;

	robust_mutex = shared_memory(PAGE);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(robust_mutex, &attributes);
	for (int round = 0; round < 50; round++) {
		pthread_t thread;
		pid_t child = fork();

		if (child == 0) {
			lock_and_die(NULL);
			if (round % 2)
				usleep(1000);
			_exit(0);
		}
		pthread_create(&thread, NULL, lock_and_die, NULL);
		pthread_join(thread, NULL);
		MUST(waitpid(child, NULL, 0) == child);
	}
	int error = pthread_mutex_lock(robust_mutex);
	MUST(error == EOWNERDEAD);
	munmap(robust_mutex, PAGE);
}

static _Atomic unsigned long handled;

static void count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&handled, 1);
}

static void *send_signals(void *argument)
{
	pthread_t *all = argument;
	Random random = random_from(3);

	do {
		for (int i = 0; i < 4; i++)
			pthread_kill(all[i], SIGUSR1);
		kill(getpid(), SIGUSR2);
		if (random_below(&random, 4) == 0)
			sched_yield();
	} while (!is_over(deadline));
	return NULL;
}

/* Threads get signals all the time and make calls that are interrupted and started again. */
static void *be_interrupted(void *argument)
{
	int ends[2];
	char text[64];

	(void)argument;
	if (pipe(ends))
		return NULL;
	while (!is_over(deadline)) {
		struct timespec little = {0, 300000};

		if (write(ends[1], "0123456789", 10) != 10)
			wrong("a write was cut short");
		if (read(ends[0], text, sizeof text) != 10 || memcmp(text, "0123456789", 10))
			wrong("a read gave something else");
		clock_nanosleep(CLOCK_MONOTONIC, 0, &little, NULL);
		futex(&words[1], FUTEX_WAIT, 1, 0, NULL, 0);
	}
	close(ends[0]);
	close(ends[1]);
	return NULL;
}

static void signals(void)
{
	pthread_t all[4], senders[2];
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};

	handled = 0;
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	deadline = end_of_part();
	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, be_interrupted, NULL);
	pthread_create(&senders[0], NULL, send_signals, all);
	pthread_create(&senders[1], NULL, send_signals, all);
	pthread_join(senders[0], NULL);
	pthread_join(senders[1], NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(all[i], NULL);
	printf("%lu signals\n", (unsigned long)handled);
	MUST(handled > 0);
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"many", many},	    {"locks", locks},		   {"conditions", conditions},
		{"requeue", requeue}, {"exec", exec_among_threads}, {"exit", exit_among_threads},
		{"killed", killed}, {"churn", churn},		   {"robust", robust},
		{"signals", signals},
	};

	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 9;
	if (argc > 2)
		seconds = atof(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
